"""Span corruption (Raffel et al. 2020, "T5", section 3.1.4).

Spans of three tokens on average, 15 % of the text in total, are each replaced by a unique sentinel.
The encoder reads the text with the sentinels; the decoder predicts each sentinel followed by the
tokens it replaced. Sentinels count down from the last id of the vocabulary.

The length of the text determines the number of spans and of their tokens, so all shapes are static:
568 tokens become 512 inputs and 114 targets, as in `preprocessors.py` of the released code. The
random draws follow that code: the removed tokens and the kept tokens are each split at random into
the same number of pieces; the text starts with a kept piece and ends with a removed one; both
sequences end with </s>.

L raw length  R raw length of a packed row  N documents  S spans  T target length  B batch
"""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import Example, Objective, Term, dropout_rngs, objective
from zoo.params import call

RATE, MEAN_SPAN = 0.15, 3.0


def counts(length: int) -> tuple[int, int]:
    """Return how many tokens of a text are removed, and in how many spans."""
    noise = min(max(round(length * RATE), 1), length - 1)
    return noise, max(1, round(noise / MEAN_SPAN))


def lengths(raw: int) -> tuple[int, int]:
    """Return the lengths of inputs and targets for a text of `raw` tokens, including </s>."""
    noise, spans = counts(raw)
    return raw - noise + spans + 1, noise + spans + 1


def raw_length(length: int) -> int:
    """Return the length of the longest text whose inputs are no longer than `length`.

    Raises:
      ValueError: If `length` is too short for any text.
    """
    fitting = [raw for raw in range(2, 2 * length) if lengths(raw)[0] <= length]
    if not fitting:
        raise ValueError(
            f"inputs of length {length} have no room for a text with one span: use at least 3"
        )
    return max(fitting)


@objective
class SpanCorruption(Objective):
    """Prediction of removed spans; `first_sentinel` is the highest id, `end` the id of </s>."""

    first_sentinel: int
    end: int
    factors = {"token": 1.0}
    reported_term = "token"

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Turn a text of L tokens into inputs, decoder inputs and targets."""
        tokens_L, real_L = example["tokens"], example["mask"]
        L = len(tokens_L)
        size = real_L.sum()
        # Rounded in Python for every possible length: float32 would round some halves differently.
        noise, spans = jnp.array([(0, 0), (0, 0), *map(counts, range(2, L + 1))])[size]
        max_noise, S = counts(L)
        noise_key, kept_key = jax.random.split(key)
        kept_S = partition(kept_key, L, S, size - noise, spans)
        removed_S = partition(noise_key, max_noise, S, noise, spans)
        # A removed piece starts after all previous pieces and one more kept piece.
        removed_start_S = jnp.cumsum(kept_S + removed_S) - removed_S
        kept_start_S = removed_start_S - kept_S
        used_S = jnp.arange(S) < spans
        opens = lambda start_S: (
            jnp.zeros(L, jnp.int32).at[jnp.where(used_S, start_S, L)].add(1, mode="drop")
        )
        removed_opens_L, kept_opens_L = opens(removed_start_S), opens(kept_start_S)
        is_removed_L = jnp.cumsum(removed_opens_L) == jnp.cumsum(kept_opens_L)
        input_size, target_size = lengths(L)
        inputs, num_inputs = self._with_sentinels(
            tokens_L, real_L & ~is_removed_L, removed_opens_L, input_size
        )
        targets, num_targets = self._with_sentinels(
            tokens_L, real_L & is_removed_L, kept_opens_L, target_size
        )
        real = size > 1  # else the row is padding
        is_target = (jnp.arange(target_size) < num_targets) & real
        return {
            "tokens": inputs,
            "documents": ((jnp.arange(input_size) < num_inputs) & real).astype(jnp.int32),
            "decoder_inputs": jnp.roll(targets, 1).at[0].set(0),
            "targets": targets,
            "weights": {"token": is_target.astype(jnp.float32)},
        }

    def _with_sentinels(
        self, tokens_L: jax.Array, kept_L: jax.Array, marked_L: jax.Array, size: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return kept tokens, sentinels at the marks, and the end: `size` ids and their count."""
        # Marks are only where tokens are not kept, so every position yields at most one id.
        sentinel_L = self.first_sentinel + 1 - jnp.cumsum(marked_L)
        is_output_L = kept_L | (marked_L > 0)
        position_L = jnp.where(is_output_L, jnp.cumsum(is_output_L) - 1, size)
        words_L = jnp.where(marked_L > 0, sentinel_L, tokens_L)
        ids = jnp.zeros(size, jnp.int32).at[position_L].set(words_L, mode="drop")
        return ids.at[is_output_L.sum()].set(self.end, mode="drop"), is_output_L.sum() + 1

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
        """Return the cross-entropy of the targets: {"token": Term}."""
        unprojected = call(
            model,
            params,
            batch["tokens"],
            batch["decoder_inputs"],
            batch["documents"],
            batch.get("target_documents"),
            train=train,
            rngs=dropout_rngs(key),
            method="unprojected",
        )
        return {
            "token": cross_entropy(unprojected, batch["targets"], batch["weights"]["token"])
        }, carry

    def unigram_loss(self, entropy: float, length: int) -> float | None:
        """Return the loss of a model that predicts every target by its frequency.

        The targets of a text are the removed tokens, one sentinel per span, and one end token.
        """
        noise, spans = counts(raw_length(length))
        total = noise + spans + 1
        marks = (spans + 1) / total * math.log(total)  # each occurs once per text
        return noise / total * (entropy + math.log(total / noise)) + marks


@objective
class PackedSpanCorruption(SpanCorruption):
    """Span corruption of each document in a row, as if it had a row of its own.

    Attributes:
      length: Tokens of the inputs of a row, for all of its documents.
      most: The most documents in a row.
    """

    length: int
    most: int

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Turn a row of documents into inputs, decoder inputs and targets."""
        tokens_R, documents_R = example["tokens"], example["documents"]
        longest = raw_length(self.length)
        numbers_N = jnp.arange(1, self.most + 1)
        size_N = (documents_R == numbers_N[:, None]).sum(1)
        place_L = jnp.arange(longest)
        place_NL = (jnp.cumsum(size_N) - size_N)[:, None] + place_L
        documents = jax.vmap(super().corrupt)(
            jax.random.split(key, self.most),
            {
                "tokens": tokens_R.at[place_NL].get(mode="fill", fill_value=0),
                "mask": place_L < size_N[:, None],
            },
        )
        is_input, is_target = documents["documents"] > 0, documents["weights"]["token"] > 0
        inputs = partial(joined, is_input, self.length)
        targets = partial(joined, is_target, packed_target_length(self.length))
        target_documents = targets(jnp.where(is_target, numbers_N[:, None], 0))
        return {
            "tokens": inputs(documents["tokens"]),
            "documents": inputs(jnp.where(is_input, numbers_N[:, None], 0)),
            "decoder_inputs": targets(documents["decoder_inputs"]),
            "targets": targets(documents["targets"]),
            "target_documents": target_documents,
            "weights": {"token": (target_documents > 0).astype(jnp.float32)},
        }

    def unigram_loss(self, entropy: float, length: int) -> None:
        """Return None: how many targets are sentinels depends on the lengths of the documents."""


def packed_target_length(length: int) -> int:
    """Return the length of the targets of packed rows whose inputs have a length.

    Short documents have more targets for their length than long ones: most of them a quarter.
    """
    return max(lengths(raw_length(length))[1], -(-length // 4))


def packed_room(length: int, raw: int) -> int:
    """Return the room that a document of `raw` tokens needs among the `length` inputs of a row.

    It is more than the inputs of the document where its targets are more than their share, so that
    rows which have room for the inputs have room for the targets.
    """
    inputs, targets = lengths(raw)
    return max(inputs, -(-targets * length // packed_target_length(length)))


def packed_raw_length(length: int) -> int:
    """Return the most tokens of documents that fit into a row, before spans are removed."""
    most = max(raw / lengths(raw)[0] for raw in range(2, raw_length(length) + 1))
    return math.floor(length * most)


def joined(kept_NL: jax.Array, length: int, parts_NL: jax.Array) -> jax.Array:
    """Return what is kept of all parts as one row, padded with 0: [length]."""
    kept, parts = kept_NL.ravel(), parts_NL.ravel()
    place = jnp.where(kept, jnp.cumsum(kept) - 1, length)
    return jnp.zeros(length, parts.dtype).at[place].set(parts, mode="drop")


def partition(
    key: chex.PRNGKey, max_items: int, S: int, items: jax.Array, pieces: jax.Array
) -> jax.Array:
    """Split `items` items at random into `pieces` pieces with at least one item each: sizes [S].

    All partitions are equally likely. `max_items` is the upper limit of `items`.
    """
    position = jnp.arange(max_items - 1)
    draw = jnp.where(position < items - 1, jax.random.uniform(key, (max_items - 1,)), 2.0)
    rank = jnp.zeros(max_items - 1, jnp.int32).at[jnp.argsort(draw)].set(position)
    begins = jnp.concatenate([jnp.zeros(1, jnp.int32), (rank < pieces - 1).astype(jnp.int32)])
    piece = jnp.cumsum(begins)
    return jnp.zeros(S, jnp.int32).at[piece].add(jnp.arange(max_items) < items, mode="drop")
