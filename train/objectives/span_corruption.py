"""Span corruption (Raffel et al. 2020, "T5", section 3.1.4).

Spans of three tokens on average, 15 % of the text, are cut out; a sentinel of its own stands for
each. The encoder reads the text with the sentinels, the decoder writes each sentinel and what was
cut there. Sentinels count down from the last id of the vocabulary.

The number of spans and of their tokens is fixed by the length of the text, so the shapes are too:
568 tokens become 512 in and 114 out, as in `preprocessors.py` of the released code, whose draws
this follows: both what is cut and what stays are parted at random into as many pieces, the text
begins with a piece that stays and ends with one that is cut, and </s> ends both sequences.

L raw length  S spans  T target length  B batch
"""

import math

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import Example, Objective, Term, dropout_rngs, objective
from zoo.params import call

RATE, MEAN_SPAN = 0.15, 3.0


def counts(length: int) -> tuple[int, int]:
    """Return how many tokens of a text are cut out, and in how many spans."""
    noise = min(max(round(length * RATE), 1), length - 1)
    return noise, max(1, round(noise / MEAN_SPAN))


def lengths(raw: int) -> tuple[int, int]:
    """Return the lengths of inputs and targets of a text of `raw` tokens, </s> included."""
    noise, spans = counts(raw)
    return raw - noise + spans + 1, noise + spans + 1


def raw_length(length: int) -> int:
    """Return the length of the longest text whose inputs are no longer than `length`.

    Raises:
      ValueError: If there is none.
    """
    fitting = [raw for raw in range(2, 2 * length) if lengths(raw)[0] <= length]
    if not fitting:
        raise ValueError(
            f"inputs of length {length} have no room for a text with one span cut out: 3 is the "
            "least"
        )
    return max(fitting)


@objective
class SpanCorruption(Objective):
    """Cuts spans out of a text; `first_sentinel` is the highest id, `end` that of </s>."""

    first_sentinel: int
    end: int
    factors = {"token": 1.0}
    reported_term = "token"

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Turn a text of L tokens into inputs, decoder inputs and targets."""
        tokens_L, real_L = example["tokens"], example["mask"]
        L = len(tokens_L)
        size = real_L.sum()
        # Rounded by Python for every possible length: float32 would round some halves otherwise.
        noise, spans = jnp.array([(0, 0), (0, 0), *map(counts, range(2, L + 1))])[size]
        most_noise, S = counts(L)
        noise_key, kept_key = jax.random.split(key)
        kept_S = partition(kept_key, L, S, size - noise, spans)
        cut_S = partition(noise_key, most_noise, S, noise, spans)
        # A piece that is cut begins behind the pieces before it and one that stays.
        cut_start_S = jnp.cumsum(kept_S + cut_S) - cut_S
        kept_start_S = cut_start_S - kept_S
        used_S = jnp.arange(S) < spans
        opens = lambda start_S: (
            jnp.zeros(L, jnp.int32).at[jnp.where(used_S, start_S, L)].add(1, mode="drop")
        )
        cut_opens_L, kept_opens_L = opens(cut_start_S), opens(kept_start_S)
        is_cut_L = jnp.cumsum(cut_opens_L) == jnp.cumsum(kept_opens_L)
        input_size, target_size = lengths(L)
        inputs, num_inputs = self._fold(tokens_L, real_L & ~is_cut_L, cut_opens_L, input_size)
        targets, num_targets = self._fold(tokens_L, real_L & is_cut_L, kept_opens_L, target_size)
        real = size > 1  # else the row is padding
        is_target = (jnp.arange(target_size) < num_targets) & real
        return {
            "tokens": inputs,
            "documents": ((jnp.arange(input_size) < num_inputs) & real).astype(jnp.int32),
            "decoder_inputs": jnp.roll(targets, 1).at[0].set(0),
            "targets": targets,
            "weights": {"token": is_target.astype(jnp.float32)},
        }

    def _fold(
        self, tokens_L: jax.Array, kept_L: jax.Array, marked_L: jax.Array, size: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return kept tokens, sentinels where marked, and the end: `size` ids, and their number."""
        # A mark stands where a token is not kept, so every place gives one id or none.
        sentinel_L = self.first_sentinel + 1 - jnp.cumsum(marked_L)
        stays_L = kept_L | (marked_L > 0)
        place_L = jnp.where(stays_L, jnp.cumsum(stays_L) - 1, size)
        words_L = jnp.where(marked_L > 0, sentinel_L, tokens_L)
        folded = jnp.zeros(size, jnp.int32).at[place_L].set(words_L, mode="drop")
        return folded.at[stays_L.sum()].set(self.end, mode="drop"), stays_L.sum() + 1

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
        scores = call(
            model,
            params,
            batch["tokens"],
            batch["decoder_inputs"],
            batch["documents"],
            train=train,
            rngs=dropout_rngs(key),
            method="scores",
        )
        return {"token": cross_entropy(scores, batch["targets"], batch["weights"]["token"])}, carry

    def unigram_loss(self, entropy: float, length: int) -> float:
        """Return the loss of a model that knows how often each target occurs.

        Of the targets of a text, so many are words, one per span is a sentinel, and one is the end.
        """
        noise, spans = counts(raw_length(length))
        total = noise + spans + 1
        marks = (spans + 1) / total * math.log(total)  # each of them once per text
        return noise / total * (entropy + math.log(total / noise)) + marks


def partition(
    key: chex.PRNGKey, most: int, S: int, items: jax.Array, pieces: jax.Array
) -> jax.Array:
    """Split `items` things at random into `pieces` pieces of at least one: sizes [S].

    Every way to split them is equally likely. `most` is the most that `items` can be.
    """
    place = jnp.arange(most - 1)
    draw = jnp.where(place < items - 1, jax.random.uniform(key, (most - 1,)), 2.0)
    rank = jnp.zeros(most - 1, jnp.int32).at[jnp.argsort(draw)].set(place)
    begins = jnp.concatenate([jnp.zeros(1, jnp.int32), (rank < pieces - 1).astype(jnp.int32)])
    piece = jnp.cumsum(begins)
    return jnp.zeros(S, jnp.int32).at[piece].add(jnp.arange(most) < items, mode="drop")
