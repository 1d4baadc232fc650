"""Causal language modelling with a continuous cache (Grave et al. 2016), for evaluation only.

https://arxiv.org/abs/1612.04426, equations 3 to 5; Merity et al. 2017 (section 5) and the code of
AWD-LSTM call it a pointer. The cache has the last outputs h_i of the model, each with the word that
followed it. A word is as likely as the outputs before it are similar to the output now:

    p_cache(w) ∝ sum over i of 1[w = x_(i+1)] exp(theta h_t . h_i)
    p(w) = (1 - lambda) p_vocab(w) + lambda p_cache(w)

Every row of a batch has a cache of its own, which begins empty where the row starts its stream.
Unlike the states, it outlives the end of a document: the topic and the names of a text often
continue in the next part of it. As long as it is empty, p is p_vocab.

B batch  L length  D width  V vocabulary  W window of the cache  M all entries: window and length
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.causal_stateful import StatefulCausal
from train.objectives.objective import Example, Term, dropout_rngs, objective
from zoo.layers.linear import product
from zoo.params import call

EMPTY = -1  # the word of an entry without one


class Cache(NamedTuple):
    """The last outputs and the words that followed them, the oldest first."""

    outputs_BWD: jax.Array
    words_BW: jax.Array


@objective
class CachedCausal(StatefulCausal):
    """Prediction of the next token by a recurrent model and a cache of its outputs.

    Attributes:
      window: Number of outputs in the cache.
      theta: Factor of the similarity; 0 counts every occurrence of a word alike.
      weight: Weight of the cache, lambda in the paper.
    """

    window: int
    theta: float
    weight: float

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Prepare a window as `StatefulCausal` does, and keep whether it starts a stream."""
        return super().corrupt(key, example) | {"fresh": example["fresh"]}

    def initial_carry(self, model: nn.Module, batch_size: int) -> chex.ArrayTree:
        """Return the states before the first token, and an empty cache."""
        outputs_BWD = jnp.zeros((batch_size, self.window, model.config.width))
        words_BW = jnp.full((batch_size, self.window), EMPTY, jnp.int32)
        return super().initial_carry(model, batch_size), Cache(outputs_BWD, words_BW)

    def loss(
        self,
        model: nn.Module,
        params: chex.ArrayTree,
        batch: Example,
        carry: chex.ArrayTree,
        key: chex.PRNGKey,
        *,
        train: bool,
    ) -> tuple[dict[str, Term], chex.ArrayTree]:
        """Return the cross-entropy of the mixture; the carry is the states and the cache."""
        states, cache = carry
        unprojected, states = call(
            model,
            params,
            batch["tokens"],
            batch["documents"],
            states,
            train=train,
            rngs=dropout_rngs(key),
            method="unprojected",
        )
        weights_BL = batch["weights"]["token"]
        words_BL = jnp.where(weights_BL > 0, batch["targets"], EMPTY)
        before_BW = jnp.where(batch["fresh"][:, None], EMPTY, cache.words_BW)
        outputs_BMD = jnp.concatenate([cache.outputs_BWD, unprojected.x_BLD], 1)
        words_BM = jnp.concatenate([before_BW, words_BL], 1)

        def row(inputs):  # one at a time, so that the logits of one row are stored
            x_LD, outputs_MD, words_M, targets_L = inputs
            logits_1LV = unprojected._replace(x_BLD=x_LD[None]).logits()
            cache_LV, filled_L1 = self._cached(x_LD, outputs_MD, words_M, logits_1LV.shape[-1])
            return mixture(logits_1LV[0], cache_LV, self.weight * filled_L1, targets_L)

        inputs = unprojected.x_BLD, outputs_BMD, words_BM, batch["targets"]
        losses_BL, right_BL = jax.lax.map(row, inputs)
        term = Term((weights_BL * losses_BL).sum(), (weights_BL * right_BL).sum())
        cache = Cache(outputs_BMD[:, -self.window :], words_BM[:, -self.window :])
        return {"token": term}, (states, cache)

    def _cached(
        self, x_LD: jax.Array, outputs_MD: jax.Array, words_M: jax.Array, vocab_size: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return p_cache after each output of a row, and whether there is an entry to predict from.

        The entries are those of the cache, then those of the row itself. Output t sees the last W
        before its own, which are the entries from t on.
        """
        L, M = len(x_LD), len(words_M)
        age_LM = jnp.arange(M) - jnp.arange(L)[:, None]
        seen_LM = (age_LM >= 0) & (age_LM < self.window) & (words_M != EMPTY)
        scores_LM = self.theta * product("LD,MD->LM", x_LD, outputs_MD)
        scores_LM = jnp.where(seen_LM, scores_LM, -jnp.inf)
        filled_L1 = seen_LM.any(-1, keepdims=True)
        shares_LM = jax.nn.softmax(jnp.where(filled_L1, scores_LM, 0)) * seen_LM
        p_LV = jnp.zeros((L, vocab_size)).at[:, words_M].add(shares_LM)
        return p_LV, filled_L1


def mixture(
    logits_LV: jax.Array, cache_LV: jax.Array, weight_L1: jax.Array, targets_L: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return -log p of the targets under (1 - weight) softmax(logits) + weight cache.

    The second result is whether the target is the most likely word. The loss is computed from
    logarithms, so it stays finite where the softmax is smaller than any float.
    """
    logs_LV = jax.nn.log_softmax(logits_LV)
    p_LV = (1 - weight_L1) * jnp.exp(logs_LV) + weight_L1 * cache_LV
    of_target = lambda x_LV: jnp.take_along_axis(x_LV, targets_L[:, None], -1)
    log_vocab_L1 = jnp.log1p(-weight_L1) + of_target(logs_LV)
    log_cache_L1 = jnp.log(weight_L1 * of_target(cache_LV))
    losses_L = -jnp.logaddexp(log_vocab_L1, log_cache_L1)[:, 0]
    return losses_L, of_target(p_LV)[:, 0] >= p_LV.max(-1)
