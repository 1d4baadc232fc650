"""Cross-entropy over a vocabulary, computed in chunks so that the full logits are never stored.

B batch  L length  D width  V vocabulary  C classes
"""

from functools import partial

import jax
import jax.numpy as jnp

from train.objectives.objective import Term
from zoo.layers.embedding import UnprojectedLogits
from zoo.layers.execution import split_rows

TOKENS_PER_CHUNK = 256  # measured: the fastest on a CPU for the head of a small model


def cross_entropy(
    unprojected: UnprojectedLogits, targets_BL: jax.Array, weights_BL: jax.Array
) -> Term:
    """Return the weighted sum of -log p(target) over all positions, computed in chunks."""
    return Term(*_sum_over_chunks(_cross_entropy, unprojected, (targets_BL, weights_BL), ()))


def smoothed_cross_entropy(
    unprojected: UnprojectedLogits, targets_BL: jax.Array, weights_BL: jax.Array, smoothing: float
) -> Term:
    """Return the cross-entropy with label smoothing.

    The fraction `smoothing` of each target distribution is uniform over the vocabulary.
    """
    measure = partial(_smoothed_cross_entropy, smoothing)
    return Term(*_sum_over_chunks(measure, unprojected, (targets_BL, weights_BL), ()))


def divergence(
    student: UnprojectedLogits,
    teacher: UnprojectedLogits,
    weights_BL: jax.Array,
    temperature: float,
) -> Term:
    """Return the weighted sum of T ** 2 * KL(teacher || student) at a temperature T.

    Hinton et al. 2015, section 2: the factor T ** 2 makes the size of the gradient independent of
    the temperature. A prediction counts as correct if the argmax of both distributions agrees. The
    teacher gets no gradient.
    """
    x_BLD, *table_and_bias = jax.lax.stop_gradient(teacher)
    measure = partial(_divergence, temperature)
    return Term(*_sum_over_chunks(measure, student, (x_BLD, weights_BL), table_and_bias))


def squared_error(
    student: UnprojectedLogits, teacher: UnprojectedLogits, weights_BL: jax.Array
) -> Term:
    """Return the weighted sum of the mean squared difference of the logits.

    As in `divergence`, accuracy counts equal argmaxes, and the teacher gets no gradient.
    """
    x_BLD, *table_and_bias = jax.lax.stop_gradient(teacher)
    return Term(*_sum_over_chunks(_squared_error, student, (x_BLD, weights_BL), table_and_bias))


def classify(
    logits: jax.Array, targets: jax.Array, weights: jax.Array, smoothing: float = 0.0
) -> Term:
    """Return the cross-entropy of a few classes, from their logits.

    Args:
      logits: [..., C], such as logits_BC.
      targets: The classes, [...].
      weights: The weight of each prediction, [...].
      smoothing: The fraction of each target distribution that is spread evenly over the classes
        (Szegedy et al. 2015, section 7, https://arxiv.org/abs/1512.00567).
    """
    logs = jax.nn.log_softmax(logits)
    losses = -jnp.take_along_axis(logs, targets[..., None], -1)[..., 0]
    if smoothing:
        losses = (1 - smoothing) * losses - smoothing * logs.mean(-1)
    right = logits.argmax(-1) == targets
    return Term((weights * losses).sum(), (weights * right).sum())


def classify_each(
    logits_BC: jax.Array, targets_BC: jax.Array, weights_BC: jax.Array, smoothing: float = 0.0
) -> Term:
    """Return the binary cross-entropy of independent classes, from their logits.

    With smoothing, a target of 0 or 1 moves by half of it towards the other.
    """
    shares_BC = (1 - smoothing) * targets_BC + smoothing / 2
    losses_BC = jax.nn.softplus(logits_BC) - shares_BC * logits_BC
    right_BC = (logits_BC > 0) == (targets_BC > 0)
    return Term((weights_BC * losses_BC).sum(), (weights_BC * right_BC).sum())


# The arguments of a measure are the logits of a chunk, the other inputs at its positions, and the
# arrays that all chunks share. It returns the sum of the losses, the number of correct predictions,
# and the gradient with respect to the logits.


def _cross_entropy(logits_BLV, inputs, _):
    targets_BL, weights_BL = inputs
    highest_BL = logits_BLV.max(-1)
    sum_BL = jnp.exp(logits_BLV - highest_BL[..., None]).sum(-1)
    target_BL = jnp.take_along_axis(logits_BLV, targets_BL[..., None], -1)[..., 0]
    loss = (weights_BL * (jnp.log(sum_BL) + highest_BL - target_BL)).sum()
    right = (weights_BL * (target_BL >= highest_BL)).sum()
    gradient_BLV = jnp.exp(logits_BLV - highest_BL[..., None]) * (weights_BL / sum_BL)[..., None]
    is_target_BLV = jnp.arange(logits_BLV.shape[-1]) == targets_BL[..., None]
    return loss, right, gradient_BLV - jnp.where(is_target_BLV, weights_BL[..., None], 0)


def _smoothed_cross_entropy(smoothing, logits_BLV, inputs, shared):
    (targets_BL, weights_BL), V = inputs, logits_BLV.shape[-1]
    loss, right, gradient_BLV = _cross_entropy(logits_BLV, inputs, shared)
    # Smoothing moves weight from the logit of the target to the mean of all logits.
    target_BL = jnp.take_along_axis(logits_BLV, targets_BL[..., None], -1)[..., 0]
    loss += smoothing * (weights_BL * (target_BL - logits_BLV.mean(-1))).sum()
    is_target_BLV = jnp.arange(V) == targets_BL[..., None]
    return loss, right, gradient_BLV + smoothing * weights_BL[..., None] * (is_target_BLV - 1 / V)


def _divergence(temperature, logits_BLV, inputs, teacher):
    x_BLD, weights_BL = inputs
    teacher_BLV = UnprojectedLogits(x_BLD, *teacher).logits()
    p_BLV = jax.nn.log_softmax(logits_BLV / temperature)
    q_BLV = jax.nn.log_softmax(teacher_BLV / temperature)
    teacher_p_BLV = jnp.exp(q_BLV)
    loss = temperature**2 * (weights_BL * (teacher_p_BLV * (q_BLV - p_BLV)).sum(-1)).sum()
    right = (weights_BL * (logits_BLV.argmax(-1) == teacher_BLV.argmax(-1))).sum()
    weights_BL1 = temperature * weights_BL[..., None]
    return loss, right, weights_BL1 * (jnp.exp(p_BLV) - teacher_p_BLV)


def _squared_error(logits_BLV, inputs, teacher):
    x_BLD, weights_BL = inputs
    teacher_BLV = UnprojectedLogits(x_BLD, *teacher).logits()
    error_BLV = logits_BLV - teacher_BLV
    loss = (weights_BL * jnp.square(error_BLV).mean(-1)).sum()
    right = (weights_BL * (logits_BLV.argmax(-1) == teacher_BLV.argmax(-1))).sum()
    return loss, right, 2 * weights_BL[..., None] / logits_BLV.shape[-1] * error_BLV


# One pass over the logits, chunk by chunk, computes both the loss and the gradients. The backward
# pass only scales the gradients by the incoming one.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_over_chunks(measure, unprojected: UnprojectedLogits, inputs, shared):
    def chunk(sums, chunk_inputs):
        x_BlD, *rest = chunk_inputs
        loss, right, _ = measure(unprojected._replace(x_BLD=x_BlD).logits(), rest, shared)
        return (sums[0] + loss, sums[1] + right), None

    chunks = _split_into_chunks(unprojected.x_BLD, *inputs)
    return jax.lax.scan(chunk, (jnp.float32(0), jnp.float32(0)), chunks)[0]


def _sum_forward(measure, unprojected: UnprojectedLogits, inputs, shared):
    x_BLD, table_VD, bias_V = unprojected
    einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)

    def chunk(sums, chunk_inputs):
        loss, right, table_gradient_DV, bias_gradient_V = sums
        x_BlD, *rest = chunk_inputs
        *values, gradient_BlV = measure(unprojected._replace(x_BLD=x_BlD).logits(), rest, shared)
        bias_gradient_V += gradient_BlV.sum((0, 1))
        gradient_BlV = gradient_BlV.astype(table_VD.dtype)
        x_gradient_BlD = einsum("blv,vd->bld", gradient_BlV, table_VD)
        table_gradient_DV += einsum("bld,blv->dv", x_BlD.astype(table_VD.dtype), gradient_BlV)
        sums = (loss + values[0], right + values[1], table_gradient_DV, bias_gradient_V)
        return sums, x_gradient_BlD

    V, D = table_VD.shape
    zeros = (jnp.float32(0), jnp.float32(0), jnp.zeros((D, V)), jnp.zeros(V))
    sums, x_gradients = jax.lax.scan(chunk, zeros, _split_into_chunks(x_BLD, *inputs))
    loss, right, table_gradient_DV, bias_gradient_V = sums
    x_gradient_BLD = jnp.moveaxis(x_gradients, 0, 1).reshape(x_BLD.shape).astype(x_BLD.dtype)
    table_gradient_VD = table_gradient_DV.T.astype(table_VD.dtype)
    bias_gradient_V = bias_gradient_V.sum() if jnp.ndim(bias_V) == 0 else bias_gradient_V
    return (loss, right), UnprojectedLogits(x_gradient_BLD, table_gradient_VD, bias_gradient_V)


def _sum_backward(measure, saved, incoming):
    scale = incoming[0]
    return (
        jax.tree.map(lambda gradient: (scale * gradient).astype(gradient.dtype), saved),
        None,
        None,
    )


_sum_over_chunks.defvjp(_sum_forward, _sum_backward)


def _split_into_chunks(*arrays):
    """Return the arrays as [chunks, B, L / chunks, ...].

    They are split along the length, so that rows stay on their devices.
    """
    B, L, _ = arrays[0].shape
    counts = range(1, L + 1)
    chunks = next(n for n in counts if L % n == 0 and (n * TOKENS_PER_CHUNK >= B * L or n == L))
    split = lambda array: jnp.moveaxis(
        split_rows(array).reshape(B, chunks, L // chunks, *array.shape[2:]), 1, 0
    )
    return tuple(split(array) for array in arrays)
