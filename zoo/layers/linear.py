"""Matrix products and dense layers.

Every matrix product runs in the dtype of its second operand, which is a parameter or was projected
by one, and accumulates in float32. So the dtype of the parameters selects the compute dtype of the
whole model, and no layer has a field for it. Hidden states are float32, but in a stack of blocks
they may be narrower: they are most of what a step moves between memory and chip.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

# The names of results, for policies of recomputation: products of tokens with weights, and of
# tokens with each other, such as the scores of attention.
WITH_WEIGHTS, BETWEEN_TOKENS = "product_with_weights", "product_between_tokens"


_hidden: ContextVar[str] = ContextVar("hidden", default="float32")


@contextmanager
def hidden_states(dtype: str) -> Iterator[None]:
    """Trace layers whose outputs are of another type than float32."""
    before = _hidden.set(dtype)
    try:
        yield
    finally:
        _hidden.reset(before)


def hidden(x: jax.Array) -> jax.Array:
    """Return an output of a layer in the type of the hidden states."""
    return x.astype(_hidden.get())


def between_tokens(x: jax.Array) -> jax.Array:
    """Return a product of tokens with each other, with its name for policies of recomputation."""
    return checkpoint_name(x, BETWEEN_TOKENS)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the einsum of two arrays in the dtype of `y`, accumulated and returned in float32.

    The backward pass casts the incoming gradient to the dtype of `y` too; otherwise it would
    multiply in float32, at twice the cost.
    """
    return jnp.einsum(equation, x.astype(y.dtype), y, preferred_element_type=jnp.float32)


def _product_forward(equation, x, y):
    inputs, result = equation.split("->")
    left, right = inputs.split(",")
    name = BETWEEN_TOKENS if set(left) & set(right) & set(result) else WITH_WEIGHTS
    return checkpoint_name(product(equation, x, y), name), _saved(x, y)


def _saved(x, y):
    # An empty array passes the dtype of x to the backward pass without keeping x itself.
    return x.astype(y.dtype), y, jnp.empty(0, x.dtype)


def _product_backward(equation, saved, gradient):
    x, y, empty = saved
    inputs, result = equation.split("->")
    left, right = inputs.split(",")
    gradient = gradient.astype(y.dtype)
    einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)
    x_gradient = einsum(f"{result},{right}->{left}", gradient, y)
    y_gradient = einsum(f"{left},{result}->{right}", x, gradient)
    return x_gradient.astype(empty.dtype), y_gradient.astype(y.dtype)


product.defvjp(_product_forward, _product_backward)


def affine(x: jax.Array, kernel_DF: jax.Array) -> jax.Array:
    """Return x times a matrix over the last axis, in the matrix's dtype, accumulated in float32.

    The result has the type of the hidden states.
    """
    return checkpoint_name(hidden(_affine(x, kernel_DF)), WITH_WEIGHTS)


@jax.custom_vjp
def _affine(x: jax.Array, kernel_DF: jax.Array) -> jax.Array:
    """Return the product of `affine` in float32.

    The weight gradient is custom for XLA on CPU, which would otherwise recompute the input x
    element by element inside the product: a fifth of the time of a training step.
    """
    return product("...D,DF->...F", x, kernel_DF)


def _affine_forward(x, kernel_DF):
    return _affine(x, kernel_DF), _saved(x, kernel_DF)


def _affine_backward(saved, gradient):
    x, kernel_DF, empty = saved
    gradient = gradient.astype(kernel_DF.dtype)
    einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)
    x_gradient = einsum("...F,DF->...D", gradient, kernel_DF)
    D, F = kernel_DF.shape
    if kernel_DF.dtype == jnp.float32:
        kernel_gradient = einsum("TD,TF->DF", x.reshape(-1, D), gradient.reshape(-1, F))
    else:  # the fast bfloat16 kernel needs two contracted axes
        B = x.shape[0]
        kernel_gradient = einsum("BLD,BLF->DF", x.reshape(B, -1, D), gradient.reshape(B, -1, F))
    return x_gradient.astype(empty.dtype), kernel_gradient.astype(kernel_DF.dtype)


_affine.defvjp(_affine_forward, _affine_backward)


class Linear(nn.Module):
    """A dense layer without a bias over the last axis: x_BLD -> x_BLF, or x_BD -> x_BF."""

    features: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return affine(x, self.param("kernel", self.kernel_init, (x.shape[-1], self.features)))


class Dense(nn.Module):
    """A dense layer over the last axis: x_BLD -> x_BLF, or x_BD -> x_BF."""

    features: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel_DF = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias_F = self.param("bias", nn.initializers.zeros, (self.features,))
        return hidden(affine(x, kernel_DF) + bias_F)


class LinearHeadsIn(nn.Module):
    """A dense layer without a bias into heads: x_BLD -> x_BHLK, in the kernel's dtype."""

    num_heads: int
    head_width: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        shape = x_BLD.shape[-1], self.num_heads, self.head_width
        return into_heads(x_BLD, self.param("kernel", self.kernel_init, shape))


class HeadsIn(nn.Module):
    """A dense layer into heads: x_BLD -> x_BHLK, in the kernel's dtype."""

    num_heads: int
    head_width: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        D, H, K = x_BLD.shape[-1], self.num_heads, self.head_width
        kernel_DHK = self.param("kernel", self.kernel_init, (D, H, K))
        bias_HK = self.param("bias", nn.initializers.zeros, (H, K))
        return into_heads(x_BLD, kernel_DHK, bias_HK)


class LinearHeadsOut(nn.Module):
    """A dense layer without a bias out of heads: x_BHLK -> x_BLD."""

    width: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BHLK: jax.Array) -> jax.Array:
        _, H, _, K = x_BHLK.shape
        return out_of_heads(x_BHLK, self.param("kernel", self.kernel_init, (H, K, self.width)))


class HeadsOut(nn.Module):
    """A dense layer out of heads: x_BHLK -> x_BLD."""

    width: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BHLK: jax.Array) -> jax.Array:
        _, H, _, K = x_BHLK.shape
        kernel_HKD = self.param("kernel", self.kernel_init, (H, K, self.width))
        bias_D = self.param("bias", nn.initializers.zeros, (self.width,))
        return hidden(out_of_heads(x_BHLK, kernel_HKD) + bias_D)


def into_heads(
    x_BLD: jax.Array, kernel_DHK: jax.Array, bias_HK: jax.Array | float = 0.0
) -> jax.Array:
    """Return x_BHLK in the kernel's dtype, which decides the compute dtype of attention."""
    D, H, K = kernel_DHK.shape
    x_BLHK = affine(x_BLD, kernel_DHK.reshape(D, H * K)).reshape(*x_BLD.shape[:2], H, K) + bias_HK
    return x_BLHK.swapaxes(1, 2).astype(kernel_DHK.dtype)


def out_of_heads(x_BHLK: jax.Array, kernel_HKD: jax.Array) -> jax.Array:
    """Return the projection out of heads: x_BLD."""
    B, H, L, K = x_BHLK.shape
    x_BLF = x_BHLK.swapaxes(1, 2).reshape(B, L, H * K)
    return affine(x_BLF, kernel_HKD.reshape(H * K, -1))
