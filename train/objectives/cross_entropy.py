"""Cross-entropy against a vocabulary, never holding the whole logits.

B batch  L length  D width  V vocabulary  C classes
"""

from functools import partial

import jax
import jax.numpy as jnp

from train.objectives import Term
from zoo.layers import Scores

TOKENS_A_CHUNK = 256  # the fastest on a CPU for the head of a small model, measured


def cross_entropy(scores: Scores, targets_BL, weights_BL) -> Term:
    """Sums weight times -log p(target) over all positions, in chunks of positions.

    Loss and gradients come out of one pass over the logits, which are made, used and dropped a
    chunk at a time; the gradient is then scaled by what arrives from above.
    """
    x_BLD, table_VD, bias_V = scores
    bias_V = jnp.broadcast_to(jnp.float32(bias_V), table_VD.shape[:1])
    return Term(*_summed(x_BLD, table_VD, bias_V, targets_BL, weights_BL))


def classify(logits_BC, targets_B, weights_B) -> Term:
    """The same for a handful of classes."""
    losses_B = -jnp.take_along_axis(jax.nn.log_softmax(logits_BC), targets_B[:, None], 1)[:, 0]
    right_B = logits_BC.argmax(-1) == targets_B
    return Term((weights_B * losses_B).sum(), (weights_B * right_B).sum())


def divergence(student: Scores, teacher: Scores, weights_BL, temperature: float) -> Term:
    """Sums weight times KL(teacher || student) at a temperature T, times T ** 2.

    Hinton et al. 2015, section 2: the square keeps the gradient's size whatever the temperature.
    Right is where both find the same word likeliest. The teacher gets no gradient.
    """

    def term(student_BLV, teacher_BLV):
        student_BLV = jax.nn.log_softmax(student_BLV / temperature)
        teacher_BLV = jax.nn.log_softmax(teacher_BLV / temperature)
        return temperature**2 * (jnp.exp(teacher_BLV) * (teacher_BLV - student_BLV)).sum(-1)

    return _compared(term, student, teacher, weights_BL)


def squared_error(student: Scores, teacher: Scores, weights_BL) -> Term:
    """Sums weight times the mean square difference of the logits; the rest as `divergence`."""
    term = lambda student_BLV, teacher_BLV: jnp.square(student_BLV - teacher_BLV).mean(-1)
    return _compared(term, student, teacher, weights_BL)


def _compared(term, student: Scores, teacher: Scores, weights_BL) -> Term:
    teacher = jax.lax.stop_gradient(teacher)

    # Made again in the backward pass, so that no logits are kept.
    @jax.checkpoint
    def chunk(sums, inputs):
        student_BLD, teacher_BLD, weights_BL = inputs
        student_BLV = student._replace(x_BLD=student_BLD).logits()
        teacher_BLV = teacher._replace(x_BLD=teacher_BLD).logits()
        loss = (weights_BL * term(student_BLV, teacher_BLV)).sum()
        right_BL = student_BLV.argmax(-1) == teacher_BLV.argmax(-1)
        return Term(sums.loss + loss, sums.right + (weights_BL * right_BL).sum()), None

    chunks = _cut(student.x_BLD, teacher.x_BLD, weights_BL)
    return jax.lax.scan(chunk, Term(jnp.float32(0), jnp.float32(0)), chunks)[0]


@jax.custom_vjp
def _summed(x_BLD, table_VD, bias_V, targets_BL, weights_BL):
    def chunk(sums, inputs):
        _, highest_BL, sum_BL, target_BL = _chunk(table_VD, bias_V, inputs)
        loss, right = _terms(highest_BL, sum_BL, target_BL, inputs[2])
        return (sums[0] + loss, sums[1] + right), None

    chunks = _cut(x_BLD, targets_BL, weights_BL)
    return jax.lax.scan(chunk, (jnp.float32(0), jnp.float32(0)), chunks)[0]


def _summed_forward(x_BLD, table_VD, bias_V, targets_BL, weights_BL):
    einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)

    def chunk(sums, inputs):
        loss, right, table_gradient_DV, bias_gradient_V = sums
        x_BlD, targets_Bl, weights_Bl = inputs
        logits_BlV, highest_Bl, sum_Bl, target_Bl = _chunk(table_VD, bias_V, inputs)
        more = _terms(highest_Bl, sum_Bl, target_Bl, weights_Bl)
        gradient_BlV = (
            jnp.exp(logits_BlV - highest_Bl[..., None]) * (weights_Bl / sum_Bl)[..., None]
        )
        hit_BlV = jnp.arange(logits_BlV.shape[-1]) == targets_Bl[..., None]
        gradient_BlV -= jnp.where(hit_BlV, weights_Bl[..., None], 0)
        bias_gradient_V += gradient_BlV.sum((0, 1))
        gradient_BlV = gradient_BlV.astype(table_VD.dtype)
        x_gradient_BlD = einsum("blv,vd->bld", gradient_BlV, table_VD)
        table_gradient_DV += einsum("bld,blv->dv", x_BlD.astype(table_VD.dtype), gradient_BlV)
        sums = (loss + more[0], right + more[1], table_gradient_DV, bias_gradient_V)
        return sums, x_gradient_BlD

    V, D = table_VD.shape
    zeros = (jnp.float32(0), jnp.float32(0), jnp.zeros((D, V)), jnp.zeros(V))
    chunks = _cut(x_BLD, targets_BL, weights_BL)
    (loss, right, table_gradient_DV, bias_gradient_V), x_gradients = jax.lax.scan(
        chunk, zeros, chunks
    )
    x_gradient_BLD = jnp.moveaxis(x_gradients, 0, 1).reshape(x_BLD.shape).astype(x_BLD.dtype)
    table_gradient_VD = table_gradient_DV.T.astype(table_VD.dtype)
    return (loss, right), (x_gradient_BLD, table_gradient_VD, bias_gradient_V)


def _summed_backward(saved, arriving):
    scale = arriving[0]
    return *((scale * gradient).astype(gradient.dtype) for gradient in saved), None, None


_summed.defvjp(_summed_forward, _summed_backward)


def _cut(*arrays):
    """Cuts along the length, so that rows stay on their devices: [chunks, B, L / chunks, ...]."""
    B, L, _ = arrays[0].shape
    enough = range(1, L + 1)
    chunks = next(n for n in enough if L % n == 0 and (n * TOKENS_A_CHUNK >= B * L or n == L))
    cut = lambda array: jnp.moveaxis(array.reshape(B, chunks, L // chunks, *array.shape[2:]), 1, 0)
    return tuple(cut(array) for array in arrays)


def _chunk(table_VD, bias_V, inputs):
    x_BLD, targets_BL, _ = inputs
    logits_BLV = Scores(x_BLD, table_VD, bias_V).logits()
    highest_BL = logits_BLV.max(-1)
    sum_BL = jnp.exp(logits_BLV - highest_BL[..., None]).sum(-1)
    target_BL = jnp.take_along_axis(logits_BLV, targets_BL[..., None], -1)[..., 0]
    return logits_BLV, highest_BL, sum_BL, target_BL


def _terms(highest_BL, sum_BL, target_BL, weights_BL):
    loss = (weights_BL * (jnp.log(sum_BL) + highest_BL - target_BL)).sum()
    return loss, (weights_BL * (target_BL >= highest_BL)).sum()
