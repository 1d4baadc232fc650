"""A sampled softmax over a large vocabulary, for training (Jean et al. 2015).

https://arxiv.org/abs/1412.2007, section 3, as in the released code of ELMo: the target competes
with a few words that all positions of a batch share, in place of the whole vocabulary. The words
are drawn without replacement by a log-uniform distribution, p(id) = ln(1 + 1 / (id + 1)) /
ln(V + 1), so the ids have to be sorted by frequency, the most frequent first. To correct for the
draw, the logarithm of the expected count of a word is subtracted from its logit, of the target too.
A sample that is the target of a position is left out there.

The draw: every word arrives after an exponentially distributed time, at the rate p, and the first N
are the samples. A word arrives before the time of the next, t, with the probability
1 - exp(-p t), which is its expected count (Duffield et al. 2007).

B batch  L length  N samples  D width  V vocabulary
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import Term
from zoo.layers.embedding import UnprojectedLogits, lookup
from zoo.layers.linear import product

LEFT_OUT = -1e30  # the logit of a sample that is the target


class Samples(NamedTuple):
    """Token ids that stand for a vocabulary.

    Attributes:
      ids_N: The ids.
      log_counts_V: The logarithm of the expected count of every token of the vocabulary.
    """

    ids_N: jax.Array
    log_counts_V: jax.Array


def token_loss(
    unprojected: UnprojectedLogits,
    targets_BL: jax.Array,
    weights_BL: jax.Array,
    samples: int,
    key: chex.PRNGKey,
) -> Term:
    """Return the cross-entropy of tokens, by a sampled softmax if there are samples.

    Args:
      unprojected: The logits before the product with the vocabulary.
      targets_BL: The tokens.
      weights_BL: The weight of each prediction.
      samples: Number of negatives; 0: the full softmax.
      key: The key of the step.
    """
    if not samples:
        return cross_entropy(unprojected, targets_BL, weights_BL)
    drawn = draw(jax.random.fold_in(key, 2), samples, len(unprojected.table_VD))
    return sampled_cross_entropy(unprojected, targets_BL, weights_BL, drawn)


def draw(key: chex.PRNGKey, samples: int, vocab_size: int) -> Samples:
    """Return so many different tokens of a vocabulary, or all of them if it has no more."""
    ids_V = jnp.arange(vocab_size)
    p_V = jnp.log1p(1 / (ids_V + 1)) / jnp.log(vocab_size + 1)
    arrival_V = jax.random.exponential(key, (vocab_size,)) / p_V
    if samples >= vocab_size:
        return Samples(ids_V, jnp.zeros(vocab_size))
    later, ids = jax.lax.top_k(-arrival_V, samples + 1)
    return Samples(ids[:-1], jnp.log(-jnp.expm1(p_V * later[-1])))


def sampled_cross_entropy(
    unprojected: UnprojectedLogits,
    targets_BL: jax.Array,
    weights_BL: jax.Array,
    samples: Samples,
) -> Term:
    """Return the weighted sum of -log p(target), among the target and the samples.

    Only the rows of the targets and of the samples get a gradient. A prediction is correct if the
    full softmax would rank the target above all samples.
    """
    x_BLD, table_VD, bias_V = unprojected
    bias_V = jnp.broadcast_to(bias_V, len(table_VD))
    rows_ND = lookup(table_VD, samples.ids_N).astype(table_VD.dtype)
    sampled_BLN = product("BLD,ND->BLN", x_BLD, rows_ND) + bias_V[samples.ids_N]
    sampled_BLN = jnp.where(samples.ids_N == targets_BL[..., None], LEFT_OUT, sampled_BLN)
    target_BL = (x_BLD * lookup(table_VD, targets_BL)).sum(-1) + bias_V[targets_BL]
    right_BL = target_BL >= sampled_BLN.max(-1)
    sampled_BLN -= samples.log_counts_V[samples.ids_N]
    target_BL -= samples.log_counts_V[targets_BL]
    others_BL = jax.nn.logsumexp(sampled_BLN, -1)
    losses_BL = jnp.logaddexp(others_BL, target_BL) - target_BL
    return Term((weights_BL * losses_BL).sum(), (weights_BL * right_BL).sum())
