"""ResNet's folders."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.formats.huggingface.format import LINEAR, NORM, Format, nested
from zoo.models import resnet

CONVOLUTION = {  # with its batch normalization
    "kernel": ("convolution.weight", "KLIO -> OIKL"),
    **nested(NORM, "norm", "normalization"),
    "norm/mean": "normalization.running_mean",
    "norm/variance": "normalization.running_var",
}
PARTS = {"first": "layer.0", "second": "layer.1", "third": "layer.2", "shortcut": "shortcut"}
CONVOLUTIONS = {"trunk/stem": "resnet.embedder.embedder"} | {
    f"trunk/stages_{stage}_{{}}/{ours}": f"resnet.encoder.stages.{stage}.layers.{{}}.{theirs}"
    for stage in range(4)
    for ours, theirs in PARTS.items()
}


class ResNetFormat(Format):
    """ResNet's format; the defaults of absent fields are those of ResNet-50."""

    def to_config(self, published: Mapping[str, Any]) -> resnet.Config:
        """Return our Config; raise ValueError if the network does not have four stages."""
        count = len(published.get("id2label") or ()) or published.get("num_labels", 2)
        config = super().to_config(
            {
                **published,
                "depths": tuple(published.get("depths", (3, 4, 6, 3))),
                "hidden_sizes": tuple(published.get("hidden_sizes", resnet.WIDE)),
                "num_labels": count,
            }
        )
        if (len(config.depths), len(config.widths)) != (4, 4) or config.block not in resnet.BLOCKS:
            blocks = " or ".join(resnet.BLOCKS)
            raise ValueError(f"zoo supports ResNets of four stages of {blocks}, not {config}")
        return config

    def describe(self, config: resnet.Config) -> dict[str, Any]:
        """Return the fields of config.json."""
        lists = {"depths": list(config.depths), "hidden_sizes": list(config.widths)}
        return super().describe(config) | lists

    def buffers(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the batch counters stored with the running statistics: zeros."""
        means = [name for name in tensors if name.endswith("running_mean")]
        zero = np.zeros((), np.int64)
        return {name.replace("running_mean", "num_batches_tracked"): zero for name in means}


FORMAT = ResNetFormat(
    model_type="resnet",
    config_class=resnet.Config,
    classes={"ResNetForImageClassification": resnet.ResNetClassifier},
    fields={
        "num_channels": ("num_channels", 3),
        "stem_width": ("embedding_size", 64),
        "depths": ("depths", (3, 4, 6, 3)),
        "widths": ("hidden_sizes", resnet.WIDE),
        "block": ("layer_type", "bottleneck"),
        "num_classes": ("num_labels", 2),
    },
    constants={
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    },
    weights={
        **{
            path: row
            for ours, theirs in CONVOLUTIONS.items()
            for path, row in nested(CONVOLUTION, ours, theirs).items()
        },
        **nested(LINEAR, "head", "classifier.1"),
    },
    prefix="resnet.",
    ignored=(r"\.num_batches_tracked$",),  # unused with a fixed momentum
)
