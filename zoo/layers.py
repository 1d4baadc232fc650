"""The parts that architectures share: products, embeddings, dropout, feed-forward, normalisation.

A part takes numbers, never a config. Activations are float32; every matrix product runs in the type
of its second operand, a parameter or what was projected by one, and adds up in float32. So casting
the parameters chooses the compute type of a whole model, and no part has a field for it.

B batch  L length  M memory  D width  H heads  K head width  F feed-forward width  V vocabulary
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

# Which axes of the shared parts' parameters may be split over devices: path pattern -> one mesh
# axis an axis. Wide axes (vocabulary, heads, feed-forward) go to `tensor`, the model's width to
# `fsdp`.
AXES = (
    (r"embedding$", ("tensor", "fsdp")),
    (r"(query|key|value)/kernel$", ("fsdp", "tensor", None)),
    (r"(query|key|value)/bias$", ("tensor", None)),
    (r"output/kernel$", ("tensor", None, "fsdp")),
    (r"up/kernel$", ("fsdp", "tensor")),
    (r"up/bias$", ("tensor",)),
    (r"down/kernel$", ("tensor", "fsdp")),
)


# Products


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(equation: str, x, y):
    """Einsum of two arrays in the type of `y`, added up and returned in float32.

    The backward pass casts the incoming gradient to the type of `y` too: left to itself it would
    multiply in float32, at twice the cost.
    """
    return jnp.einsum(equation, x.astype(y.dtype), y, preferred_element_type=jnp.float32)


def _product_forward(equation, x, y):
    # An empty array carries the type of x to the backward pass without keeping x itself.
    return product(equation, x, y), (x.astype(y.dtype), y, jnp.empty(0, x.dtype))


def _product_backward(equation, saved, gradient):
    x, y, like = saved
    inputs, result = equation.split("->")
    left, right = inputs.split(",")
    gradient = gradient.astype(y.dtype)
    einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)
    x_gradient = einsum(f"{result},{right}->{left}", gradient, y)
    y_gradient = einsum(f"{left},{result}->{right}", x, gradient)
    return x_gradient.astype(like.dtype), y_gradient.astype(y.dtype)


product.defvjp(_product_forward, _product_backward)


@jax.custom_vjp
def affine(x, kernel_DF):
    """The last axis of x times a matrix, in the type of the matrix, added up in float32.

    Its weight gradient is written for XLA on CPU, which otherwise recomputes whatever made x,
    element by element, inside the product: one fifth of a whole training step.
    """
    return product("...D,DF->...F", x, kernel_DF)


def _affine_backward(saved, gradient):
    x, kernel_DF, like = saved
    gradient = gradient.astype(kernel_DF.dtype)
    einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)
    x_gradient = einsum("...F,DF->...D", gradient, kernel_DF)
    D, F = kernel_DF.shape
    if kernel_DF.dtype == jnp.float32:
        kernel_gradient = einsum("TD,TF->DF", x.reshape(-1, D), gradient.reshape(-1, F))
    else:  # the fast bfloat16 kernel wants two contracted axes
        B = x.shape[0]
        kernel_gradient = einsum("BLD,BLF->DF", x.reshape(B, -1, D), gradient.reshape(B, -1, F))
    return x_gradient.astype(like.dtype), kernel_gradient.astype(kernel_DF.dtype)


affine.defvjp(partial(_product_forward, "...D,DF->...F"), _affine_backward)


class Kernel(nn.Module):
    """A map without a bias, for whoever multiplies with it."""

    shape: tuple[int, ...]
    kernel_init: Callable

    @nn.compact
    def __call__(self):
        return self.param("kernel", self.kernel_init, self.shape)


class Dense(nn.Module):
    """An affine map of the last axis: x_BLD -> x_BLF, or x_BD -> x_BF."""

    features: int
    kernel_init: Callable

    @nn.compact
    def __call__(self, x):
        kernel_DF = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias_F = self.param("bias", nn.initializers.zeros, (self.features,))
        return affine(x, kernel_DF) + bias_F


class Heads(nn.Module):
    """An affine map into heads, heads before positions: x_BLD -> x_BHLK, in the kernel's type."""

    num_heads: int
    head_width: int
    kernel_init: Callable

    @nn.compact
    def __call__(self, x_BLD):
        D, H, K = x_BLD.shape[-1], self.num_heads, self.head_width
        kernel_DHK = self.param("kernel", self.kernel_init, (D, H, K))
        bias_HK = self.param("bias", nn.initializers.zeros, (H, K))
        return into_heads(x_BLD, kernel_DHK, bias_HK)


class Merge(nn.Module):
    """An affine map out of heads: x_BHLK -> x_BLD."""

    width: int
    kernel_init: Callable

    @nn.compact
    def __call__(self, x_BHLK):
        _, H, _, K = x_BHLK.shape
        kernel_HKD = self.param("kernel", self.kernel_init, (H, K, self.width))
        bias_D = self.param("bias", nn.initializers.zeros, (self.width,))
        return out_of_heads(x_BHLK, kernel_HKD) + bias_D


def into_heads(x_BLD, kernel_DHK, bias_HK=0.0):
    """x_BLD -> x_BHLK, in the kernel's type: what is scored and mixed takes its type from here."""
    D, H, K = kernel_DHK.shape
    x_BLHK = affine(x_BLD, kernel_DHK.reshape(D, H * K)).reshape(*x_BLD.shape[:2], H, K) + bias_HK
    return x_BLHK.swapaxes(1, 2).astype(kernel_DHK.dtype)


def out_of_heads(x_BHLK, kernel_HKD):
    """x_BHLK -> x_BLD."""
    B, H, L, K = x_BHLK.shape
    x_BLF = x_BHLK.swapaxes(1, 2).reshape(B, L, H * K)
    return affine(x_BLF, kernel_HKD.reshape(H * K, -1))


class Embedding(nn.Module):
    """A table of vectors: ids_BL -> x_BLD in float32.

    An id outside the table gives NaN, never a neighbour.
    """

    num_embeddings: int
    width: int
    embedding_init: Callable

    def setup(self):
        self.embedding = self.param(
            "embedding", self.embedding_init, (self.num_embeddings, self.width)
        )

    def __call__(self, ids_BL):
        return lookup(self.embedding, ids_BL)


@jax.custom_vjp
def lookup(table_VD, ids):
    """Rows of a table in float32, whose gradient adds up in float32 whatever the table's type."""
    return jnp.take(table_VD, ids, axis=0, mode="fill").astype(jnp.float32)


def _lookup_forward(table_VD, ids):
    return lookup(table_VD, ids), (jnp.empty_like(table_VD, shape=(table_VD.shape[0], 0)), ids)


def _lookup_backward(saved, gradient):
    like, ids = saved
    table_VD = jnp.zeros((like.shape[0], gradient.shape[-1]), jnp.float32)
    return table_VD.at[ids].add(gradient).astype(like.dtype), None


lookup.defvjp(_lookup_forward, _lookup_backward)


class Scores(NamedTuple):
    """A vocabulary head before its product, so that a loss may take it in chunks."""

    x_BLD: jax.Array
    table_VD: jax.Array
    bias_V: jax.Array | float

    def logits(self):
        """The scores of every word of the vocabulary: logits_BLV, float32."""
        return product("BLD,VD->BLV", self.x_BLD, self.table_VD) + self.bias_V


# Dropout


def keep(key, rate: float, shape):
    """A mask of `shape`, True with probability 1 - rate, from a hash of (key, position).

    Several times cheaper than threefry on a CPU, and dropout asks for nothing that it lacks; the
    tests hold its rate and its independence between positions, rows and keys.
    """
    words = jax.random.key_data(key).astype(jnp.uint32).reshape(-1)
    first = _scramble(words[0] ^ jnp.uint32(0x9E3779B9))
    second = _scramble(words[1] + first)
    x = jnp.zeros(shape, jnp.uint32) + first
    stride = 1
    for axis in reversed(range(len(shape))):
        x += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D) + second
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    x = (x ^ (x >> 16)) * jnp.uint32(0x9E3779B1)
    return x >= jnp.uint32(round(rate * 2**32))


def _scramble(x):
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


class Dropout(nn.Module):
    """In training, sets a share `rate` of the values to zero and scales up the rest.

    The random stream is "dropout".
    """

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        if not train or self.rate == 0:
            return x
        kept = keep(self.make_rng("dropout"), self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0)


# Feed-forward and normalisation


def gelu(x):
    """The Gaussian error linear unit with its exact error function (Hendrycks and Gimpel 2016)."""
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


def gelu_tanh(x):
    """The tanh form of the same, which the GPTs were trained with: up to 5e-4 away."""
    return nn.gelu(x, approximate=True)


class FeedForward(nn.Module):
    """Two maps with a bend between them: x_BLD -> x_BLD."""

    mlp_width: int
    width: int
    activation: Callable
    kernel_init: Callable
    output_init: Callable

    def setup(self):
        self.up = Dense(self.mlp_width, self.kernel_init)
        self.down = Dense(self.width, self.output_init)

    def __call__(self, x_BLD):
        return self.down(self.activation(self.up(x_BLD)))


class Norm(nn.Module):
    """Layer normalisation (Ba et al. 2016): x_BLD -> x_BLD.

    Flax's own spreads the scale over a whole array before it multiplies: three parts in a hundred
    of a training step on a CPU.
    """

    epsilon: float

    @nn.compact
    def __call__(self, x_BLD):
        D = x_BLD.shape[-1]
        scale_D = self.param("scale", nn.initializers.ones, (D,))
        bias_D = self.param("bias", nn.initializers.zeros, (D,))
        x_BLD = x_BLD - x_BLD.mean(-1, keepdims=True)
        variance_BL1 = jnp.square(x_BLD).mean(-1, keepdims=True)
        return x_BLD * jax.lax.rsqrt(variance_BL1 + self.epsilon) * scale_D + bias_D
