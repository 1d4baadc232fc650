"""Span corruption: inputs and targets together restore the text, for all random numbers."""

from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import models, normalizers

from tests import shapes
from train.objectives import span_corruption
from train.objectives.span_corruption import SpanCorruption, counts, lengths, partition, raw_length
from train.recipes import recipe
from zoo.tokenizers import byt5, published

FIRST, END = 999, 1
OBJECTIVE = SpanCorruption(FIRST, END)


def row(size, length=141, seed=0):
    """Return a text of `size` tokens from 10 to 800, padded to a length."""
    mask = np.arange(length) < size
    draw = np.random.default_rng(seed).integers(10, 800, length)
    return {"tokens": np.where(mask, draw, 0).astype(np.int32), "mask": mask}


def corrupt_copies(example, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    corrupted = jax.jit(jax.vmap(OBJECTIVE.corrupt, (0, None)))(keys, example)
    return [jax.tree.map(lambda x, i=i: np.asarray(x[i]), corrupted) for i in range(count)]


def split_at_sentinels(ids):
    """Return the tokens before the first sentinel and after each: [(sentinel, [ids])]."""
    segments = [(None, [])]
    for token in ids:
        if token > 800:
            segments.append((int(token), []))
        else:
            segments[-1][1].append(int(token))
    return segments


@pytest.mark.parametrize(
    ("length", "raw", "target"),
    [(512, 568, 114), (1024, 1137, 229), (256, 284, 58), (128, 141, 29), (64, 70, 14)],
)
def test_lengths_are_those_of_the_released_code(length, raw, target):
    assert raw_length(length) == raw
    assert lengths(raw) == (length, target)
    assert counts(568) == (85, 28)


def test_a_length_without_space_for_a_span_is_refused():
    with pytest.raises(ValueError, match="no room for a text with one span"):
        raw_length(2)
    assert lengths(raw_length(3)) == (3, 3)


@pytest.mark.parametrize("size", [141, 140, 97, 20, 5, 3, 2])
def test_the_text_can_be_restored(size):
    example = row(size)
    noise, number = counts(size)
    for corrupted in corrupt_copies(example, 40):
        inputs = corrupted["tokens"][corrupted["documents"] > 0]
        targets = corrupted["targets"][corrupted["weights"]["token"] > 0]
        assert inputs[-1] == targets[-1] == END
        assert len(inputs) == size - noise + number + 1
        assert len(targets) == noise + number + 1
        (_, text), *kept = split_at_sentinels(inputs[:-1])
        (_, before_first_sentinel), *spans = split_at_sentinels(targets[:-1])
        assert text  # the text begins with tokens that are kept
        assert not before_first_sentinel
        sentinels = [FIRST - i for i in range(number)]
        assert [s for s, _ in kept] == [s for s, _ in spans] == sentinels
        assert not kept[-1][1]  # and ends with a corrupted span
        for (_, span), (_, after_span) in zip(spans, kept, strict=True):
            assert span
            text += span + after_span
        assert text == example["tokens"][:size].tolist()
        assert (corrupted["tokens"][corrupted["documents"] == 0] == 0).all()


def test_decoder_inputs_are_the_targets_shifted_by_one():
    for corrupted in corrupt_copies(row(141), 3):
        assert corrupted["decoder_inputs"][0] == 0
        assert (corrupted["decoder_inputs"][1:] == corrupted["targets"][:-1]).all()


def test_a_row_of_padding_has_no_targets():
    for size in (0, 1):
        (corrupted,) = corrupt_copies(row(size), 1)
        assert not corrupted["weights"]["token"].any()
        assert not corrupted["documents"].any()


def test_every_partition_is_equally_likely():
    keys = jax.random.split(jax.random.key(0), 20_000)
    partitions = jax.jit(jax.vmap(lambda key: partition(key, 9, 4, 6, 3)))(keys)
    counts = Counter(map(tuple, np.asarray(partitions).tolist()))
    assert len(counts) == 10  # five positions for two boundaries
    assert all(sum(sizes) == 6 and sizes[3] == 0 and min(sizes[:3]) > 0 for sizes in counts)
    for count in counts.values():
        assert abs(count - 2000) < 5 * np.sqrt(2000)


def test_every_row_and_step_has_other_spans():
    first, second = corrupt_copies(row(141), 2)
    assert (first["tokens"] != second["tokens"]).any()
    (first_again,) = corrupt_copies(row(141), 1)
    assert (first_again["tokens"] != corrupt_copies(row(141), 1, seed=1)[0]["tokens"]).any()


def test_names_agree_with_shapes():
    with shapes.checked() as places:
        jax.eval_shape(OBJECTIVE.corrupt, jax.random.key(0), row(141))
    assert any("corrupt:removed_start_S" in place for place in places)
    assert span_corruption.MEAN_SPAN == 3
    assert jnp.ndim(OBJECTIVE.first_sentinel) == 0


def test_sentinels_count_down_from_the_first_or_the_row_is_refused():
    pieces = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    words = published.unigram(models.Unigram(pieces, 2), normalizers.NFKC())
    published.add_t5_specials(words)
    tiny = recipe("t5-tiny")
    assert tiny.objective(words).first_sentinel == words.token_to_id("<extra_id_0>")
    with pytest.raises(ValueError, match="up to 114 spans, but the tokenizer has 100 sentinels"):
        replace(tiny, length=2048).objective(words)
    letters = byt5.build()  # whose sentinels are the bytes 0xFF, 0xFE, ...
    assert tiny.objective(letters).first_sentinel == letters.token_to_id(byt5.byte_letters()[-1])
