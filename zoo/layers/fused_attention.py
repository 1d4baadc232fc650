"""Attention that never writes its scores to memory, where the platform has a kernel for it.

On a TPU it is the kernel of `zoo.layers.attention_kernel`; on a GPU cuDNN's, through JAX.
"""

import math
import warnings
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from zoo.layers import attention_kernel, dropout, execution
from zoo.layers.attention_kernel import Rules, Scalars
from zoo.layers.execution import HEADS, Execution
from zoo.layers.linear import between_tokens
from zoo.layers.mask import Mask

HALF = (jnp.bfloat16, jnp.float16)
MOST_HEAD_WIDTH = 128  # of cuDNN on all its GPUs


class Inputs(NamedTuple):
    """The arrays of dot-product attention.

    Attributes:
      q_BHLK: The queries, scaled.
      k_BHMK: The keys.
      v_BHMK: The values.
      bias_HLM: Added to the scores; None: nothing.
    """

    q_BHLK: jax.Array
    k_BHMK: jax.Array
    v_BHMK: jax.Array
    bias_HLM: jax.Array | None = None


def attend(inputs: Inputs, mask: Mask, drop: dropout.Dropout | None) -> jax.Array | None:
    """Return x_BHLK in the type of the values, or None where no kernel takes the inputs.

    Args:
      inputs: Queries, keys, values and biases.
      mask: Which keys each query attends to.
      drop: The dropout of the weights; None: none.
    """
    run = execution.current()
    if run.target == "tpu":
        x_BHLK = on_tpu(inputs, mask, drop, run)
    elif run.target == "gpu":
        x_BHLK = on_gpu(inputs, mask, drop)
    else:
        return None
    return None if x_BHLK is None else between_tokens(x_BHLK)


def on_tpu(
    inputs: Inputs, mask: Mask, drop: dropout.Dropout | None, run: Execution
) -> jax.Array | None:
    """Return the attention of the TPU kernel, or None where it does not take the inputs."""
    q_BHLK, k_BHMK, *_ = inputs
    (B, H, L, _), M = q_BHLK.shape, k_BHMK.shape[2]
    mesh = run.mesh
    chip = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    if not attention_kernel.takes(attention_kernel.Inputs(*inputs), chip.device_kind):
        return None
    if mesh is not None and B % math.prod(mesh.shape[axis] for axis in run.rows):
        return None
    rate = 0.0 if drop is None else drop.rate
    no_seeds = jnp.uint32(0), jnp.uint32(0)
    seeds = no_seeds if drop is None else dropout.seeds(drop.key())
    ids = mask.query_document_ids_BL, mask.key_document_ids_BM
    query_ids_BL1, key_ids_B1M = _columns(*ids, (B, L, M))
    arrays = attention_kernel.Inputs(*inputs, query_ids_BL1, key_ids_B1M)
    rules = Rules(mask.direction, mask.window, rate, H)

    def on_device(arrays, query_offset, seeds, row=0, head=0):
        numbers = Scalars(query_offset, row, head, seeds).packed()
        return attention_kernel.attend(rules, arrays, numbers)

    offset = jnp.int32(mask.query_offset)
    if mesh is None or mesh.size == 1:
        return on_device(arrays, offset, seeds)

    heads = HEADS if HEADS in mesh.shape and H % mesh.shape[HEADS] == 0 else None

    def on_each(arrays, query_offset, seeds):
        B, H, _, _ = arrays.q_BHLK.shape
        row = jax.lax.axis_index(run.rows) * B
        head = 0 if heads is None else jax.lax.axis_index(heads) * H
        return on_device(arrays, query_offset, seeds, row, head)

    of_heads, of_rows = P(run.rows, heads), P(run.rows)
    of_arrays = (*[of_heads] * 3, P(heads), of_rows, of_rows)
    specs: list[Any] = [
        None if x is None else spec for x, spec in zip(arrays, of_arrays, strict=True)
    ]
    over_mesh = jax.shard_map(
        on_each,
        mesh=mesh,
        in_specs=(attention_kernel.Inputs(*specs), P(), P()),
        out_specs=of_heads,
        check_vma=False,
    )
    return over_mesh(arrays, offset, seeds)


def _columns(query_ids_BL, key_ids_BM, sizes):
    """Return the document ids in the layout of the kernel, for all rows."""
    B, L, M = sizes
    if key_ids_BM is None:
        return None, None
    key_ids_B1M = jnp.broadcast_to(key_ids_BM, (B, M))[:, None]
    if query_ids_BL is None:
        return None, key_ids_B1M
    return jnp.broadcast_to(query_ids_BL, (B, L))[..., None], key_ids_B1M


def on_gpu(
    inputs: Inputs, mask: Mask, drop: dropout.Dropout | None, implementation: str = "cudnn"
) -> jax.Array | None:
    """Return the attention of cuDNN, or None where it does not take the inputs.

    JAX's public function has no dropout. A mask of documents is passed as an array [B, 1, L, M],
    which all heads share. Tests run it as "xla".
    """
    q_BHLK, k_BHMK, v_BHMK, bias_HLM = inputs
    (B, _, L, K), M = q_BHLK.shape, k_BHMK.shape[2]
    is_whole = isinstance(mask.query_offset, int) and mask.query_offset == 0 and L == M
    if implementation == "cudnn" and v_BHMK.dtype not in HALF:
        return None
    if drop is not None or L == 1 or K % 8 or K > MOST_HEAD_WIDTH:
        return None
    allowed_B1LM, is_causal = None, False
    if mask.key_document_ids_BM is None and is_whole and mask.window is None:
        is_causal = mask.direction == "causal"
    else:
        allowed = mask.dense(L, M)
        allowed_B1LM = None if allowed is None else jnp.broadcast_to(allowed, (B, 1, L, M))
    attend = partial(
        jax.nn.dot_product_attention,
        mask=allowed_B1LM,
        scale=1.0,
        is_causal=is_causal,
        implementation=implementation,
    )
    bias = None if bias_HLM is None else bias_HLM[None].astype(q_BHLK.dtype)
    try:
        x_BLHK = attend(*(x.swapaxes(1, 2) for x in (q_BHLK, k_BHMK, v_BHMK)), bias)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        _warn_once(str(error).partition("\n")[0])
        return None
    return x_BLHK.swapaxes(1, 2)


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"attention runs without cuDNN: {reason}", stacklevel=2)
