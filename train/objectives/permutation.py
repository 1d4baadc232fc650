"""Permutation language modelling (Yang et al. 2019, sections 2.2 to 2.5 and appendix A).

A sixth of the tokens is predicted, in spans, each from the rest and from those spans' tokens that
come earlier in an order drawn anew for every row. A row has two parts: the first `reuse` tokens,
which the next row has in its memory, and the others. The first does not see the second; the second
sees all of the first.

Departures from `data_utils.py`: special tokens are never picked, so that there are as many
predictions as asked for wherever a part has as many words; the order fits any length, where the
released code wants whole blocks; rows are masked and ordered anew at every visit.

B batch  L length of a row or of a part  P predictions
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import Example, Objective, Term, dropout_rngs, objective
from zoo.layers.transformer_xl import Memory, lengthen
from zoo.params import call

LONGEST_SPAN = 5  # a span of n tokens is drawn with probability proportional to 1 / n


@objective
class Permutation(Objective):
    """Predicts `num_predictions` tokens per row, `memory` positions of earlier rows in sight.

    A span of n tokens stands in a context of n * mask_alpha // mask_beta; tokens are ordered inside
    blocks of `perm_size`; `sep` and `cls` are seen but never predicted.
    """

    sep: int
    cls: int
    num_predictions: int = 85
    reuse: int = 256
    memory: int = 384
    perm_size: int = 256
    mask_alpha: int = 6
    mask_beta: int = 1
    factors = {"token": 1.0}
    reported_term = "token"

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Draw what each token may not see (`blocked`, [L, L]), and what is predicted ([P])."""
        tokens, mask = example["tokens"], example["mask"]
        L, P = len(tokens), self.num_predictions
        if not 0 < self.reuse < L:
            raise ValueError(f"a row of {L} tokens has no two parts with reuse = {self.reuse}")
        special = (tokens == self.sep) | (tokens == self.cls)
        allowed = mask & ~special
        parts = (slice(0, self.reuse), P - P // 2), (slice(self.reuse, L), P // 2)
        blocked = jnp.zeros((L, L), bool).at[: self.reuse, self.reuse :].set(True)
        target = jnp.zeros(L, bool)
        for part_key, (part, goal) in zip(jax.random.split(key), parts, strict=True):
            span_key, fill_key, order_key = jax.random.split(part_key, 3)
            words = example["words"][part] & allowed[part]
            picked = self.spans(span_key, words, allowed[part], goal)
            picked = fill(fill_key, picked, allowed[part], goal)
            place = order(order_key, len(words), self.perm_size)
            blocked = blocked.at[part, part].set(unseen(place, picked, special[part]))
            target = target.at[part].set(picked)
        predictions = jnp.flatnonzero(target, size=P, fill_value=0)
        return {
            "tokens": tokens,
            "segments": example["segments"],
            "documents": mask.astype(jnp.int32),
            "blocked": blocked,
            "predictions": predictions,
            "targets": tokens[predictions],
            "fresh": example["fresh"],
            "weights": {"token": (jnp.arange(P) < target.sum()).astype(jnp.float32)},
        }

    def spans(
        self, key: chex.PRNGKey, words_L: jax.Array, allowed_L: jax.Array, goal: int
    ) -> jax.Array:
        """Pick at most `goal` tokens of one part in spans that begin where words begin: picked_L.

        From left to right: a length n; a number of tokens to pass over, from 0 to below the
        context; on to the next word; n tokens, of which the allowed are picked; the rest of the
        context is passed over. As in the released code, a span that would reach the end of the part
        is the last, and not taken.
        """
        L = len(words_L)
        at_L = jnp.arange(L)
        next_word_L = jax.lax.cummin(jnp.where(words_L, at_L, L), reverse=True)
        log_p = -jnp.log(jnp.arange(1.0, LONGEST_SPAN + 1))

        def unfinished(state):
            _, at, picked_L = state
            return (at < L) & (picked_L.sum() < goal)

        def span(state):
            turn, at, picked_L = state
            length_key, left_key = jax.random.split(jax.random.fold_in(key, turn))
            n = jnp.minimum(1 + jax.random.categorical(length_key, log_p), goal - picked_L.sum())
            context = n * self.mask_alpha // self.mask_beta
            left = jax.random.randint(left_key, (), 0, context)
            begin = next_word_L.at[at + left].get(mode="fill", fill_value=L)
            stop = begin + n
            taken_L = (begin <= at_L) & (at_L < stop) & allowed_L & (stop < L)
            return turn + 1, jnp.where(stop < L, stop + context - left, L), picked_L | taken_L

        return jax.lax.while_loop(unfinished, span, (0, 0, jnp.zeros(L, bool)))[2]

    def initial_carry(self, model: nn.Module, batch_size: int) -> chex.ArrayTree:
        """Return an empty memory of `memory` positions per row."""
        c = model.config
        empty = (jnp.zeros((batch_size, self.memory, c.width)),) * c.num_layers
        return Memory(empty, jnp.zeros((batch_size, self.memory), jnp.int32))

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
        """Return the cross-entropy of the query stream: {"token": Term}.

        A fresh row forgets its memory first.
        """
        documents_BM = jnp.where(batch["fresh"][:, None], 0, carry.documents_BM)
        memory = carry._replace(documents_BM=documents_BM)
        scores, read = call(
            model,
            params,
            batch["tokens"],
            batch["segments"],
            batch["documents"],
            batch["blocked"],
            batch["predictions"],
            memory,
            train=train,
            rngs=dropout_rngs(key),
            method="scores",
        )
        term = cross_entropy(scores, batch["targets"], batch["weights"]["token"])
        return {"token": term}, lengthen(memory, read, self.reuse, self.memory)


def fill(key: chex.PRNGKey, picked_L: jax.Array, allowed_L: jax.Array, goal: int) -> jax.Array:
    """Pick single tokens until there are `goal`, or until all that are allowed are picked."""
    free_L = allowed_L & ~picked_L
    draw_L = jnp.where(free_L, jax.random.uniform(key, picked_L.shape), 2)
    rank_L = jnp.argsort(jnp.argsort(draw_L))
    return picked_L | (free_L & (rank_L < goal - picked_L.sum()))


def order(key: chex.PRNGKey, L: int, perm_size: int) -> jax.Array:
    """Return the place of each token in the order, shuffled inside blocks, alike in each block."""
    at_L = jnp.arange(L)
    return at_L // perm_size * perm_size + jax.random.permutation(key, perm_size)[at_L % perm_size]


def unseen(place_L: jax.Array, target_L: jax.Array, special_L: jax.Array) -> jax.Array:
    """Return which columns a row may not see: blocked_LL.

    Targets and special tokens are seen only by those of them that come later, and special tokens by
    themselves. All else is context, seen by everyone.
    """
    ordered_L = target_L | special_L
    place_L = jnp.where(ordered_L, place_L, -1)
    until_L = jnp.where(target_L, place_L, place_L + 1)  # sees what comes before this
    return (until_L[:, None] <= place_L) & ordered_L
