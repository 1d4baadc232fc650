"""A linear chain of tags: a conditional random field (Lafferty et al. 2001) on the logits of words.

Lample et al. 2016, https://arxiv.org/abs/1603.01360, equations 1 to 5 of section 2.2. The score of
a sequence of tags is the sum of the logits of its tags and of the transitions between neighbours.

All scores of a row are one array, the potentials: potentials_BLCC[b, l, i, j] is what tag j at
position l adds to the score after tag i. Nothing precedes the first word, so all i have the same
value there, and the first row is used. Positions that are no words are skipped.

B batch  L length  W words  C classes; of a pair of tags, the first axis is that of the earlier one
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class CRF(nn.Module):
    """Potentials from logits, with a learned score for each transition, first tag and last tag."""

    num_classes: int

    @nn.compact
    def __call__(self, logits_BLC: jax.Array, is_word_BL: jax.Array) -> jax.Array:
        C, zeros = self.num_classes, nn.initializers.zeros
        transitions_CC = self.param("transitions", zeros, (C, C))
        first_C, last_C = self.param("first", zeros, (C,)), self.param("last", zeros, (C,))
        before_BL = jnp.cumsum(is_word_BL, 1)
        is_first_BL = is_word_BL & (before_BL == 1)
        is_last_BL = is_word_BL & (before_BL == before_BL[:, -1:])
        logits_BLC = logits_BLC + jnp.where(is_last_BL[..., None], last_C, 0)
        before_BLCC = jnp.where(is_first_BL[..., None, None], first_C, transitions_CC)
        return before_BLCC + logits_BLC[:, :, None]


def negative_log_likelihood(
    potentials_BLCC: jax.Array, tags_BL: jax.Array, is_word_BL: jax.Array
) -> jax.Array:
    """Return -log p of the tags of the words of each row: [B] (equation 4 of Lample et al.)."""
    B, _, C, _ = potentials_BLCC.shape

    def advance(carry, inputs):
        alpha_BC, score_B, previous_B = carry
        potentials_BCC, tag_B, is_word_B = inputs
        after_BC = jax.nn.logsumexp(alpha_BC[:, :, None] + potentials_BCC, 1)
        own_B = potentials_BCC[jnp.arange(B), previous_B, tag_B]
        alpha_BC = jnp.where(is_word_B[:, None], after_BC, alpha_BC)
        score_B = score_B + jnp.where(is_word_B, own_B, 0)
        return (alpha_BC, score_B, jnp.where(is_word_B, tag_B, previous_B)), None

    begin_BC = jnp.where(jnp.arange(C) == 0, 0.0, -jnp.inf) * jnp.ones((B, 1))
    start = (begin_BC, jnp.zeros(B), jnp.zeros(B, tags_BL.dtype))
    steps = (potentials_BLCC.swapaxes(0, 1), tags_BL.T, is_word_BL.T)
    (alpha_BC, score_B, _), _ = jax.lax.scan(advance, start, steps)
    return jax.nn.logsumexp(alpha_BC, 1) - score_B


def best_tags(potentials_WCC: np.ndarray) -> np.ndarray:
    """Return the best sequence of tags of a sentence: [W] (Viterbi 1967)."""
    score_C, choices_WC = potentials_WCC[0, 0], []
    for potentials_CC in potentials_WCC[1:]:
        candidates_CC = score_C[:, None] + potentials_CC
        choices_WC.append(candidates_CC.argmax(0))
        score_C = candidates_CC.max(0)
    tags = [int(score_C.argmax())]
    for choices_C in reversed(choices_WC):
        tags.append(int(choices_C[tags[-1]]))
    return np.array(tags[::-1])


def marginals(potentials_WCC: np.ndarray) -> np.ndarray:
    """Return the probability of every tag at every word of a sentence: [W, C]."""
    logsumexp = np.logaddexp.reduce
    forward_WC = [potentials_WCC[0, 0]]
    for potentials_CC in potentials_WCC[1:]:
        forward_WC.append(logsumexp(forward_WC[-1][:, None] + potentials_CC, 0))
    backward_WC = [np.zeros_like(forward_WC[0])]
    for potentials_CC in potentials_WCC[:0:-1]:
        backward_WC.append(logsumexp(potentials_CC + backward_WC[-1], 1))
    logs_WC = np.array(forward_WC) + np.array(backward_WC[::-1])
    return np.exp(logs_WC - logsumexp(logs_WC, 1, keepdims=True))
