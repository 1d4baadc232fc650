"""Dot-product attention as one kernel for TPUs, which never writes the scores to memory.

A step of the kernel holds the scores of some queries for all keys of a row: [G, Q, M] for G heads
and Q queries. So a softmax needs no running maximum (unlike Dao et al. 2022,
https://arxiv.org/abs/2205.14135), biases and dropout cost no memory, and the backward pass is one
kernel too, which computes the scores again. Masks follow from document ids and positions.

G heads of a step  Q queries of a step  L queries  M keys
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from zoo.layers import dropout

LANES = 128  # queries and keys come in multiples of what a vector register holds
SCORES = 2**18  # scores of a step: 1 MiB each for scores, weights and their gradients
MIB = 2**20
VMEM = 64 * MIB  # of the memory on a chip; the first chips have less
SMALL_VMEM = 16 * MIB
SMALL_CHIPS = ("TPU v2", "TPU v3", "TPU v4")
MASKED = -1e30


class Rules(NamedTuple):
    """What the kernel is compiled for.

    Attributes:
      direction: "causal": a query attends to keys up to its own position only.
      window: The number of keys that a query attends to, or None.
      dropout: The rate of dropout of the weights.
      num_heads: The heads of all devices, for dropout.
    """

    direction: str
    window: int | None
    dropout: float
    num_heads: int


class Scalars(NamedTuple):
    """The numbers that the kernel gets.

    Attributes:
      query_offset: The position of the first query among the keys.
      row: The number of the first row of this device, for dropout.
      head: The number of the first head of this device, for dropout.
      seeds: The two words of dropout's hash.
    """

    query_offset: jax.Array
    row: jax.Array
    head: jax.Array
    seeds: tuple[jax.Array, jax.Array]

    def packed(self) -> jax.Array:
        """Return them as one array, int32 [5]."""
        numbers = [jnp.int32(x) for x in (self.query_offset, self.row, self.head)]
        words = [jax.lax.bitcast_convert_type(x, jnp.int32) for x in self.seeds]
        return jnp.stack([*numbers, *words])


class Inputs(NamedTuple):
    """The arrays of attention; None where there are none.

    Attributes:
      q_BHLK: The queries, scaled.
      k_BHMK: The keys.
      v_BHMK: The values.
      bias_HLM: Added to the scores.
      query_ids_BL1: The document of each query.
      key_ids_B1M: The document of each key; 0: padding.
    """

    q_BHLK: jax.Array
    k_BHMK: jax.Array
    v_BHMK: jax.Array
    bias_HLM: jax.Array | None = None
    query_ids_BL1: jax.Array | None = None
    key_ids_B1M: jax.Array | None = None


def takes(inputs: Inputs, kind: str) -> bool:
    """Return whether the kernel takes the inputs on a kind of chip, such as "TPU v5 lite".

    Keys and values of a head, their gradients in float32, and the gradient of the biases of a head
    have to be on the chip at once, each twice, beside the scores.
    """
    (_, _, L, K), M = inputs.q_BHLK.shape, inputs.k_BHMK.shape[2]
    if L % LANES or M % LANES or M * LANES // 4 > SCORES:
        return False
    needed = 8 * MIB + M * max(K, LANES) * (4 * inputs.k_BHMK.dtype.itemsize + 16)
    if inputs.bias_HLM is not None:
        needed += 2 * L * M * inputs.bias_HLM.dtype.itemsize
    return needed <= (SMALL_VMEM if kind.startswith(SMALL_CHIPS) else VMEM)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(rules: Rules, inputs: Inputs, scalars: jax.Array) -> jax.Array:
    """Return attention, in the type of the values: x_BHLK.

    Args:
      rules: What the kernel is compiled for.
      inputs: Queries, keys, values, biases and document ids.
      scalars: `Scalars`, packed.
    """
    plan = _Plan(inputs)
    q = inputs.q_BHLK
    [x_BHLK] = plan.call(
        partial(_forward_kernel, rules, plan),
        (scalars, *plan.operands(inputs)),
        [(jax.ShapeDtypeStruct(q.shape, inputs.v_BHMK.dtype), plan.queries)],
        products=2,
    )
    return x_BHLK


def _attend_forward(rules, inputs, scalars):
    return attend(rules, inputs, scalars), (inputs, scalars)


def _attend_backward(rules, saved, gradient_BHLK):
    inputs, scalars = saved
    plan = _Plan(inputs)
    q, k, v, bias = inputs[:4]
    float32 = lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32)
    outputs = [(q, plan.queries), (float32(k), plan.keys), (float32(v), plan.keys)]
    if bias is not None:
        outputs.append((float32(bias), plan.whole_bias))
    operands = (scalars, gradient_BHLK.astype(v.dtype), *plan.operands(inputs))
    results = plan.call(partial(_backward_kernel, rules, plan), operands, outputs, products=5)
    gradients: list[Any] = [x.astype(y.dtype) for x, y in zip(results, inputs, strict=False)]
    no_gradient = lambda x: None if x is None else np.zeros(x.shape, jax.dtypes.float0)
    if bias is None:
        gradients.append(None)
    return Inputs(*gradients, *map(no_gradient, inputs[4:])), no_gradient(scalars)


attend.defvjp(_attend_forward, _attend_backward)


class _Plan:
    """How the arrays are split into blocks: a grid over heads, rows and queries, in this order.

    So a gradient of keys or values stays on the chip for all queries of a row, and one of biases
    for all rows.
    """

    def __init__(self, inputs: Inputs):
        (B, H, L, K), M = inputs.q_BHLK.shape, inputs.k_BHMK.shape[2]
        self.shape = B, H, L, M, K
        step = LANES // 4  # the rows of a tile of narrow values
        lengths = (n for n in range(step, L + 1, step) if L % n == 0)
        self.block_length = max(n for n in lengths if n * M <= SCORES)
        most_heads = max(SCORES // (M * self.block_length), 1)
        has_bias = inputs.bias_HLM is not None
        self.block_heads = max(
            n
            for n in range(1, H + 1)
            if H % n == 0 and n <= most_heads and (n == 1 or not has_bias)
        )
        G, Q = self.block_heads, self.block_length
        self.grid = H // G, B, L // Q
        self.has = tuple(x is not None for x in inputs)
        self.queries = pl.BlockSpec((1, G, Q, K), lambda h, b, q: (b, h, q, 0))
        self.keys = pl.BlockSpec((1, G, M, K), lambda h, b, q: (b, h, 0, 0))
        self.whole_bias = pl.BlockSpec((1, L, M), lambda h, b, q: (h, 0, 0))
        self.specs = (
            self.queries,
            self.keys,
            self.keys,
            pl.BlockSpec((1, Q, M), lambda h, b, q: (h, q, 0)),
            pl.BlockSpec((1, Q, 1), lambda h, b, q: (b, q, 0)),
            pl.BlockSpec((1, 1, M), lambda h, b, q: (b, 0, 0)),
        )

    def operands(self, inputs: Inputs) -> list[jax.Array]:
        """Return the arrays that there are."""
        return [x for x in inputs if x is not None]

    def blocks(self, references: list[Any]) -> Inputs:
        """Return the blocks of a step, with None where there is no array."""
        rest = iter(references)
        blocks = [next(rest)[0] if there else None for there in self.has]
        return Inputs(*blocks)  # type: ignore[arg-type]

    def call(self, kernel, operands, outputs, *, products: int) -> list[jax.Array]:
        """Run a kernel over the grid; its first operand is the scalars."""
        B, H, L, M, K = self.shape
        specs = [spec for spec, there in zip(self.specs, self.has, strict=True) if there]
        gradients = [self.queries] * (len(operands) - 1 - len(specs))
        moved = [*operands, *(shape for shape, _ in outputs)]
        cost = pl.CostEstimate(
            flops=2 * products * B * H * L * M * K,
            transcendentals=B * H * L * M,
            bytes_accessed=sum(math.prod(x.shape) * x.dtype.itemsize for x in moved),
        )
        return pl.pallas_call(
            kernel,
            grid=self.grid,
            in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM), *gradients, *specs],
            out_specs=[spec for _, spec in outputs],
            out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x, _ in outputs],
            cost_estimate=cost,
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "arbitrary", "arbitrary"), vmem_limit_bytes=VMEM
            ),
        )(*operands)


def _forward_kernel(rules, plan, scalars, *references):
    *operands, x_reference = references
    inputs = plan.blocks(operands)
    weight_GQM, _ = _weights(rules, plan, scalars, inputs)
    if rules.dropout:
        weight_GQM = _kept(rules, plan, scalars, weight_GQM)
    v_GMK = inputs.v_BHMK[...]
    x_GQK = _product("GQM,GMK->GQK", weight_GQM.astype(v_GMK.dtype), v_GMK)
    x_reference[0] = x_GQK.astype(x_reference.dtype)


def _backward_kernel(rules, plan, scalars, gradient_reference, *references):
    operands, outputs = references[: sum(plan.has)], references[sum(plan.has) :]
    inputs = plan.blocks(operands)
    q_reference, k_reference, v_reference, *bias_reference = outputs
    q_GQK, k_GMK, v_GMK = (x[...] for x in inputs[:3])
    gradient_GQK = gradient_reference[0]
    weight_GQM, allowed_GQM = _weights(rules, plan, scalars, inputs)

    weight_gradient_GQM = _product("GQK,GMK->GQM", gradient_GQK, v_GMK)
    dropped_GQM = weight_GQM
    if rules.dropout:
        dropped_GQM = _kept(rules, plan, scalars, weight_GQM)
        weight_gradient_GQM = _kept(rules, plan, scalars, weight_gradient_GQM)
    mean_GQ1 = (weight_gradient_GQM * weight_GQM).sum(-1, keepdims=True)
    score_gradient_GQM = weight_GQM * (weight_gradient_GQM - mean_GQ1)
    if allowed_GQM is not None:  # a fully masked row has weights all the same
        score_gradient_GQM = jnp.where(allowed_GQM, score_gradient_GQM, 0)

    narrow_GQM = score_gradient_GQM.astype(k_GMK.dtype)
    q_reference[0] = _product("GQM,GMK->GQK", narrow_GQM, k_GMK).astype(q_reference.dtype)
    row, step = pl.program_id(1), pl.program_id(2)

    @pl.when(step == 0)
    def _():
        k_reference[...] = jnp.zeros_like(k_reference)
        v_reference[...] = jnp.zeros_like(v_reference)

    k_reference[0] += _product("GQM,GQK->GMK", narrow_GQM, q_GQK)
    v_reference[0] += _product("GQM,GQK->GMK", dropped_GQM.astype(v_GMK.dtype), gradient_GQK)
    for reference in bias_reference:

        @pl.when((step == 0) & (row == 0))
        def _():
            reference[...] = jnp.zeros_like(reference)  # noqa: B023

        queries = pl.ds(step * plan.block_length, plan.block_length)
        reference[:, queries] += score_gradient_GQM


def _weights(rules, plan, scalars, inputs):
    """Return the weights in float32 before dropout, and which keys a query attends to or None."""
    score_GQM = _product("GQK,GMK->GQM", inputs.q_BHLK[...], inputs.k_BHMK[...])
    if inputs.bias_HLM is not None:
        score_GQM += inputs.bias_HLM[...].astype(jnp.float32)[None]
    shape = score_GQM.shape
    query = scalars[0] + pl.program_id(2) * plan.block_length + _iota(shape, 1)
    key = _iota(shape, 2)
    conditions = []
    if rules.direction == "causal":
        conditions.append(key <= query)
    if rules.window is not None:
        conditions.append(query - key < rules.window)
    if inputs.key_ids_B1M is not None:
        key_ids_1M = inputs.key_ids_B1M[...]
        conditions.append(jnp.broadcast_to(key_ids_1M[None] > 0, shape))
        if inputs.query_ids_BL1 is not None:
            query_ids_Q1 = inputs.query_ids_BL1[...]
            conditions.append(jnp.broadcast_to((query_ids_Q1 == key_ids_1M)[None], shape))
    allowed_GQM = None
    for condition in conditions:
        allowed_GQM = condition if allowed_GQM is None else allowed_GQM & condition
    if allowed_GQM is not None:
        score_GQM = jnp.where(allowed_GQM, score_GQM, MASKED)
    exponential_GQM = jnp.exp(score_GQM - score_GQM.max(-1, keepdims=True))
    return exponential_GQM / exponential_GQM.sum(-1, keepdims=True), allowed_GQM


def _kept(rules, plan, scalars, x_GQM):
    """Return values after dropout, with the mask that `dropout.keep` has for [B, H, L, M]."""
    _, _, L, M, _ = plan.shape
    row = scalars[1] + pl.program_id(1)
    head = scalars[2] + pl.program_id(0) * plan.block_heads + _iota(x_GQM.shape, 0)
    query = pl.program_id(2) * plan.block_length + _iota(x_GQM.shape, 1)
    place = ((row * rules.num_heads + head) * L + query) * M + _iota(x_GQM.shape, 2)
    kept = dropout.keep_at(place, rules.dropout, (scalars[3], scalars[4]))
    return jnp.where(kept, x_GQM / (1 - rules.dropout), 0)


def _iota(shape, axis):
    return jax.lax.broadcasted_iota(jnp.int32, shape, axis)


def _product(equation, x, y):
    return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)
