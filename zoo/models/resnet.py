"""ResNet (He et al. 2015), "Deep Residual Learning for Image Recognition".

https://arxiv.org/abs/1512.03385
A convolutional network for images whose blocks add to their input instead of replacing it, so that
networks with a hundred layers can be trained. It is the only model here that is not for text, and
the standard example of transfer learning: the first layers detect edges, which all images share,
and the last ones are specific to ImageNet. For a new task, replace the head and unfreeze GROUPS
from last to first.

Departures: a bottleneck downsamples in its 3 x 3 convolution, as PyTorch's weights expect; in the
paper it is the first convolution. Shortcuts are the paper's option B. The running statistics of
batch normalization are parameters without a gradient, see BatchNorm.

B batch  Y rows  X columns  I width of an input  O of an output  D width  K side of a kernel
C classes
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.linear import Dense
from zoo.params import flatten, unflatten


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a ResNet; the defaults are ResNet-34.

    `depths` and `widths` are those of the four stages; `block` is a name in BLOCKS.
    """

    num_channels: int = 3
    stem_width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    block: str = "basic"
    num_classes: int = 1000


WIDE = (256, 512, 1024, 2048)  # stage widths of bottleneck networks
SIZES = {  # parameter counts without the running statistics
    # Resize grayscale digits of 8 x 8 to 32 x 32 first (jax.image.resize): the last stage divides
    # rows and columns by 32.
    "resnet-tiny": Config(
        num_channels=1, stem_width=16, depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), num_classes=10
    ),  # 309,178
    "resnet-18": Config(depths=(2, 2, 2, 2)),  # 11,689,512
    "resnet-34": Config(),  # 21,797,672
    "resnet-50": Config(widths=WIDE, block="bottleneck"),  # 25,557,032
    "resnet-101": Config(depths=(3, 4, 23, 3), widths=WIDE, block="bottleneck"),  # 44,549,160
    "resnet-152": Config(depths=(3, 8, 36, 3), widths=WIDE, block="bottleneck"),  # 60,192,808
}

EPSILON = 1e-5
MOMENTUM = 0.1  # weight of the current batch in the running statistics


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe and Szegedy 2015): x_BYXD -> x_BYXD.

    With `train=False` it uses its parameters `mean` and `variance`, which get no gradient, so
    fine-tuning with `train=False` freezes the statistics. With `train=True` it uses those of the
    batch and sows the updated running statistics into the collection "statistics":

        logits, state = model.apply({"params": params}, pixels, train=True, mutable="statistics")
        params = resnet.remember(params, state["statistics"])

    Exclude them from weight decay.

    Raises:
      ValueError: If a batch has only one value per channel.
    """

    @nn.compact
    def __call__(self, x_BYXD, *, train: bool = False):
        B, Y, X, D = x_BYXD.shape
        scale_D = self.param("scale", nn.initializers.ones, (D,))
        bias_D = self.param("bias", nn.initializers.zeros, (D,))
        mean_D = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, (D,)))
        variance_D = jax.lax.stop_gradient(self.param("variance", nn.initializers.ones, (D,)))
        if train:
            count = B * Y * X
            if count == 1:
                raise ValueError(
                    "batch normalization needs more than one value per channel: use larger batches "
                    "or images"
                )
            old, latest = (mean_D, variance_D), lambda _, new: new
            mean_D, variance_D = x_BYXD.mean((0, 1, 2)), x_BYXD.var((0, 1, 2))
            new = mean_D, variance_D * count / (count - 1)
            for name, before, now in zip(("mean", "variance"), old, new, strict=True):
                running = (1 - MOMENTUM) * before + MOMENTUM * now
                self.sow("statistics", name, running, reduce_fn=latest)
        return (x_BYXD - mean_D) * jax.lax.rsqrt(variance_D + EPSILON) * scale_D + bias_D


class Convolution(nn.Module):
    """A square convolution with a stride, then BatchNorm: x_BYXI -> x_BYXO.

    The input is padded with zeros, so that a stride of 1 keeps its size.
    """

    width: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x_BYXI, *, train: bool = False):
        K, I, O = self.size, x_BYXI.shape[-1], self.width
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # for the relu after it
        kernel_KKIO = self.param("kernel", init, (K, K, I, O))
        x = jax.lax.conv_general_dilated(
            x_BYXI.astype(kernel_KKIO.dtype),
            kernel_KKIO,
            window_strides=(self.stride, self.stride),
            padding=[(K // 2, K // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=jnp.float32,
        )
        return BatchNorm(name="norm")(x, train=train)


# (width, size, stride) of each convolution, from the width and stride of the block (figure 5).
BLOCKS = {
    "basic": lambda w, s: ((w, 3, s), (w, 3, 1)),
    "bottleneck": lambda w, s: ((w // 4, 1, 1), (w // 4, 3, s), (w, 1, 1)),
}


class Block(nn.Module):
    """A residual block: convolutions added to their input (equations 1 and 2): x_BYXI -> x_BYXO."""

    kind: str
    width: int
    stride: int

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        plan, hidden = BLOCKS[self.kind](self.width, self.stride), x
        for name, sizes in zip(("first", "second", "third"), plan, strict=False):
            residual = Convolution(*sizes, name=name)(hidden, train=train)
            hidden = nn.relu(residual)
        if self.stride > 1 or self.width != x.shape[-1]:
            x = Convolution(self.width, 1, self.stride, name="shortcut")(x, train=train)
        return nn.relu(x + residual)


class ResNet(nn.Module):
    """The trunk, without a head: pixels_BYXI -> x_BYXD with rows and columns divided by 32.

    Published weights expect RGB values from 0 to 1, minus (0.485, 0.456, 0.406), divided by (0.229,
    0.224, 0.225).
    """

    config: Config

    def setup(self):
        c = self.config
        self.stem = Convolution(c.stem_width, 7, 2)
        self.stages = [
            [Block(c.block, width, 1 if i == 0 or j > 0 else 2) for j in range(depth)]
            for i, (depth, width) in enumerate(zip(c.depths, c.widths, strict=True))
        ]

    def features(self, pixels_BYXI, *, train: bool = False):
        """Return the feature maps of the stem and of each stage, from general to specific."""
        x = nn.relu(self.stem(pixels_BYXI, train=train))
        maps = [nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])]
        for stage in self.stages:
            maps.append(maps[-1])
            for block in stage:
                maps[-1] = block(maps[-1], train=train)
        return maps

    def __call__(self, pixels_BYXI, *, train: bool = False):
        return self.features(pixels_BYXI, train=train)[-1]


class ResNetClassifier(nn.Module):
    """The trunk with a classification head."""

    config: Config

    def setup(self):
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # as in PyTorch
        self.trunk = ResNet(self.config)
        self.head = Dense(self.config.num_classes, init)

    @nn.nowrap
    def init(self, rngs, *_, **options):
        """Initialize the parameters; the images are not used, since no shape depends on them."""
        return super().init(rngs, jnp.zeros((1, 32, 32, self.config.num_channels)), **options)

    def vectors(self, pixels_BYXI, *, train: bool = False):
        """Return the input of the head, one vector per image: x_BD."""
        return self.trunk(pixels_BYXI, train=train).mean((1, 2))

    def __call__(self, pixels_BYXI, *, train: bool = False):
        """Return the logits of the classes: logits_BC."""
        return self.head(self.vectors(pixels_BYXI, train=train))


def remember(params: dict, statistics: dict) -> dict:
    """Return the parameters with the running statistics that a training step has sown."""
    return unflatten(flatten(params) | flatten(statistics))


Model = ResNetClassifier
MODELS = (ResNetClassifier,)
TASKS: dict[str, type[nn.Module]] = {}
# Prefixes of parameter paths, from the most general to the most specific.
GROUPS = ("trunk/stem/", *(f"trunk/stages_{i}_" for i in range(4)), "head/")
AXES = ((r"head/kernel$", ("fsdp", "tensor")), (r"kernel$", (None, None, "fsdp", "tensor")))
