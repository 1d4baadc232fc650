"""Span corruption: what is cut out and what stays make the text again, whatever is drawn."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes
from train.objectives import span_corruption
from train.objectives.span_corruption import SpanCorruption, counts, lengths, partition, raw_length

FIRST, END = 999, 1
OBJECTIVE = SpanCorruption(FIRST, END)


def row(size, length=141, seed=0):
    """A text of `size` words from 10 to 800, padded to a length."""
    mask = np.arange(length) < size
    draw = np.random.default_rng(seed).integers(10, 800, length)
    return {"tokens": np.where(mask, draw, 0).astype(np.int32), "mask": mask}


def drawn(example, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    found = jax.jit(jax.vmap(OBJECTIVE.corrupt, (0, None)))(keys, example)
    return [jax.tree.map(lambda x, i=i: np.asarray(x[i]), found) for i in range(count)]


def pieces(ids):
    """What stands before the first sentinel and behind each: [(sentinel, [ids])]."""
    found = [(None, [])]
    for word in ids:
        if word > 800:
            found.append((int(word), []))
        else:
            found[-1][1].append(int(word))
    return found


@pytest.mark.parametrize(
    ("length", "raw", "target"),
    [(512, 568, 114), (1024, 1137, 229), (256, 284, 58), (128, 141, 29), (64, 70, 14)],
)
def test_lengths_are_those_of_the_released_code(length, raw, target):
    assert raw_length(length) == raw
    assert lengths(raw) == (length, target)
    assert counts(568) == (85, 28)


def test_a_length_without_room_is_refused():
    with pytest.raises(ValueError, match="no room for a text with one span"):
        raw_length(2)
    assert lengths(raw_length(3)) == (3, 3)


@pytest.mark.parametrize("size", [141, 140, 97, 20, 5, 3, 2])
def test_the_text_is_put_together_again(size):
    example = row(size)
    noise, number = counts(size)
    for found in drawn(example, 40):
        seen = found["tokens"][found["documents"] > 0]
        targets = found["targets"][found["weights"]["token"] > 0]
        assert seen[-1] == targets[-1] == END
        assert len(seen) == size - noise + number + 1
        assert len(targets) == noise + number + 1
        (_, text), *kept = pieces(seen[:-1])
        (_, nothing), *cut = pieces(targets[:-1])
        assert text  # the text begins with a piece that stays
        assert not nothing
        sentinels = [FIRST - i for i in range(number)]
        assert [s for s, _ in kept] == [s for s, _ in cut] == sentinels
        assert not kept[-1][1]  # and ends with one that is cut
        for (_, span), (_, behind) in zip(cut, kept, strict=True):
            assert span
            text += span + behind
        assert text == example["tokens"][:size].tolist()
        assert (found["tokens"][found["documents"] == 0] == 0).all()


def test_the_decoder_reads_what_it_has_told_from_zero_on():
    for found in drawn(row(141), 3):
        assert found["decoder_inputs"][0] == 0
        assert (found["decoder_inputs"][1:] == found["targets"][:-1]).all()


def test_a_row_of_padding_asks_nothing():
    for size in (0, 1):
        (found,) = drawn(row(size), 1)
        assert not found["weights"]["token"].any()
        assert not found["documents"].any()


def test_every_way_to_part_is_equally_likely():
    keys = jax.random.split(jax.random.key(0), 20_000)
    found = jax.jit(jax.vmap(lambda key: partition(key, 9, 4, 6, 3)))(keys)
    seen = Counter(map(tuple, np.asarray(found).tolist()))
    assert len(seen) == 10  # five places for two borders
    assert all(sum(sizes) == 6 and sizes[3] == 0 and min(sizes[:3]) > 0 for sizes in seen)
    for count in seen.values():
        assert abs(count - 2000) < 5 * np.sqrt(2000)


def test_every_row_and_step_is_cut_elsewhere():
    one, two = drawn(row(141), 2)
    assert (one["tokens"] != two["tokens"]).any()
    (again,) = drawn(row(141), 1)
    assert (again["tokens"] != drawn(row(141), 1, seed=1)[0]["tokens"]).any()


def test_names_tell_shapes():
    with shapes.checked() as seen:
        jax.eval_shape(OBJECTIVE.corrupt, jax.random.key(0), row(141))
    assert any("corrupt:removed_start_S" in place for place in seen)
    assert span_corruption.MEAN_SPAN == 3
    assert jnp.ndim(OBJECTIVE.first_sentinel) == 0
