"""Permutation language modelling (Yang et al. 2019, sections 2.2 to 2.5 and appendix A).

A sixth of the tokens is predicted, in spans. Each target is predicted from the context and from the
targets that precede it in a random order, drawn for every row. A row has two parts: the first
`reuse` tokens, which stay in the memory of the next row, and the remaining tokens. The first part
does not attend to the second; the second attends to all of the first.

Departures from `data_utils.py`: special tokens are never targets, so the requested number of
targets is always reached if a part has enough tokens; any length is allowed, while the released
code requires whole blocks; masks and orders are new in every epoch.

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
    """Prediction of `num_predictions` tokens per row, with a memory of `memory` positions.

    A span of n tokens has a context of n * mask_alpha // mask_beta tokens. The order is shuffled
    inside blocks of `perm_size` tokens. `sep` and `cls` are context and never targets.
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
        """Draw the attention mask ("blocked", bool [L, L]) and the targets ([P]) of a row."""
        tokens, mask = example["tokens"], example["mask"]
        L, P = len(tokens), self.num_predictions
        if not 0 < self.reuse < L:
            raise ValueError(f"a row of {L} tokens cannot reuse {self.reuse}: use 1 to {L - 1}")
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
            rank = order(order_key, len(words), self.perm_size)
            blocked = blocked.at[part, part].set(unseen(rank, picked, special[part]))
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
        """Pick at most `goal` tokens of one part in spans that start at word starts: bool [L].

        From left to right, repeat: draw a span length n and an offset below the size of the
        context; skip to the offset and on to the next word start; pick the allowed ones of the next
        n tokens; skip the rest of the context. As in the released code, a span that would reach the
        end of the part is not picked and ends the loop.
        """
        L = len(words_L)
        at_L = jnp.arange(L)
        next_word_L = jax.lax.cummin(jnp.where(words_L, at_L, L), reverse=True)
        log_p = -jnp.log(jnp.arange(1.0, LONGEST_SPAN + 1))

        def unfinished(state):
            _, at, picked_L = state
            return (at < L) & (picked_L.sum() < goal)

        def span(state):
            iteration, at, picked_L = state
            length_key, offset_key = jax.random.split(jax.random.fold_in(key, iteration))
            n = jnp.minimum(1 + jax.random.categorical(length_key, log_p), goal - picked_L.sum())
            context = n * self.mask_alpha // self.mask_beta
            offset = jax.random.randint(offset_key, (), 0, context)
            begin = next_word_L.at[at + offset].get(mode="fill", fill_value=L)
            stop = begin + n
            taken_L = (begin <= at_L) & (at_L < stop) & allowed_L & (stop < L)
            return (
                iteration + 1,
                jnp.where(stop < L, stop + context - offset, L),
                picked_L | taken_L,
            )

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

        The memory of rows that start over ("fresh") is cleared first.
        """
        document_ids_BM = jnp.where(batch["fresh"][:, None], 0, carry.document_ids_BM)
        memory = carry._replace(document_ids_BM=document_ids_BM)
        unprojected, new_memory = call(
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
            method="unprojected",
        )
        term = cross_entropy(unprojected, batch["targets"], batch["weights"]["token"])
        return {"token": term}, lengthen(memory, new_memory, self.reuse, self.memory)


def fill(key: chex.PRNGKey, picked_L: jax.Array, allowed_L: jax.Array, goal: int) -> jax.Array:
    """Pick single tokens until `goal` tokens, or all allowed ones, are picked: bool [L]."""
    free_L = allowed_L & ~picked_L
    draw_L = jnp.where(free_L, jax.random.uniform(key, picked_L.shape), 2)
    rank_L = jnp.argsort(jnp.argsort(draw_L))
    return picked_L | (free_L & (rank_L < goal - picked_L.sum()))


def order(key: chex.PRNGKey, L: int, perm_size: int) -> jax.Array:
    """Return the rank of each token, with the same random permutation inside every block."""
    at_L = jnp.arange(L)
    return at_L // perm_size * perm_size + jax.random.permutation(key, perm_size)[at_L % perm_size]


def unseen(rank_L: jax.Array, target_L: jax.Array, special_L: jax.Array) -> jax.Array:
    """Return which positions (columns) a query (row) may not attend to: bool [L, L].

    Targets and special tokens are visible only to those of them with a later rank; special tokens
    also to themselves. All other tokens are context, visible to all.
    """
    ordered_L = target_L | special_L
    rank_L = jnp.where(ordered_L, rank_L, -1)
    until_L = jnp.where(target_L, rank_L, rank_L + 1)  # attends to ranks below this
    return (until_L[:, None] <= rank_L) & ordered_L
