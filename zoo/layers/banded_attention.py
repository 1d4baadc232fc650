"""Chunks of a sequence, for attention to the last few keys only, at the cost of the band.

Child et al. 2019, https://arxiv.org/abs/1904.10509, section 5.5: local attention is computed on
slices of queries, keys and values. Here a sequence is split into chunks as long as the attention
window. The window that ends at a query then lies within its own chunk and the one before, so
L * 2 W scores are computed instead of L * L.

B batch  H heads  L length  K head width  W window, the length of a chunk  N chunks of all rows
M keys of a chunk, 2 W
"""

import jax
import jax.numpy as jnp


def split(x_BHLK: jax.Array, window: int) -> jax.Array:
    """Return the chunks of all rows, the last of each row padded with zeros: x_NHWK."""
    B, H, L, K = x_BHLK.shape
    count = -(-L // window)
    padded = jnp.pad(x_BHLK, ((0, 0), (0, 0), (0, count * window - L), (0, 0)))
    chunks = padded.reshape(B, H, count, window, K).swapaxes(1, 2)
    return chunks.reshape(B * count, H, window, K)


def split_with_previous(x_BHLK: jax.Array, window: int) -> jax.Array:
    """Return each chunk after the one before it: x_NHMK; zeros before the first of a row."""
    x_NHWK = split(x_BHLK, window)
    of_rows = x_NHWK.reshape(len(x_BHLK), -1, *x_NHWK.shape[1:])
    previous = jnp.pad(of_rows[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate([previous.reshape(x_NHWK.shape), x_NHWK], 2)


def join(x_NHWK: jax.Array, num_rows: int, length: int) -> jax.Array:
    """Return rows of `length` positions from their chunks: x_BHLK, the inverse of `split`."""
    N, H, W, K = x_NHWK.shape
    chunks = x_NHWK.reshape(num_rows, N // num_rows, H, W, K).swapaxes(1, 2)
    return chunks.reshape(num_rows, H, -1, K)[:, :, :length]


def join_weights(weight_NHWM: jax.Array, num_rows: int, length: int) -> jax.Array:
    """Return the attention weights of chunks as those of all keys: [B, H, L, L].

    They are zero outside of the band.
    """
    N, H, W, _ = weight_NHWM.shape
    count = N // num_rows

    def place(weight_HWM, number):
        before = jnp.zeros((H, W, (count + 1) * W), weight_HWM.dtype)
        return jax.lax.dynamic_update_slice_in_dim(before, weight_HWM, number * W, 2)

    placed = jax.vmap(place)(weight_NHWM, jnp.arange(N) % count)
    return join(placed, num_rows, length)[..., W : W + length]
