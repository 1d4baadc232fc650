"""Rows have every pair of a text once per epoch, in an order set only by seed and step."""

import numpy as np
import pytest

from tests.data.test_cooccurrences import corpus, random_text, rule
from train.data import cooccurrences
from train.data.batches.cooccurrences import Cooccurrences

B, L, N = 4, 30, 8
SOURCE = Cooccurrences(length=L, block_size=N, rule=rule(3), num_words=1000)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "pairs"))


def pairs(batches, first, last):
    """Return the pairs of some batches, in their order."""
    result = []
    for step in range(first, last):
        batch = batches(step)
        assert {name: array.shape for name, array in batch.items()} == {
            "size": (B,),
            **dict.fromkeys(("first", "second", "count"), (B, 32)),
        }
        for row, size in enumerate(batch["size"]):
            columns = (batch[name][row] for name in ("first", "second", "count"))
            triples = list(zip(*(column.tolist() for column in columns), strict=True))
            assert all(count > 0 for _, _, count in triples[:size])
            assert all(count == 0 for _, _, count in triples[size:])
            result += triples[:size]
    return result


def test_an_epoch_has_every_pair_once_and_the_next_one_another_order():
    text = corpus(random_text(600))
    expected = cooccurrences.records(text, rule(3)).tolist()
    batches = SOURCE.train(text, B, seed=5)
    assert batches.num_examples == -(-len(expected) // L)
    steps = batches.num_examples  # of B epochs
    four = pairs(batches, 0, steps)
    assert sorted(four) == sorted(expected * B)
    assert four[: len(expected)] != four[len(expected) : 2 * len(expected)]
    assert pairs(SOURCE.train(text, B, seed=5), 3, 5) == pairs(batches, 3, 5)


def test_the_order_does_not_depend_on_the_number_of_processes():
    text = corpus(random_text(600))
    parts = [SOURCE.train(text, B, 5, (process, 2))(2) for process in range(2)]
    both = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    whole = SOURCE.train(text, B, 5)(2)
    assert all((both[name] == whole[name]).all() for name in whole)


def test_an_evaluation_has_every_pair_once_counted_as_if_the_text_were_as_long():
    tokens = random_text(600)
    text = corpus(tokens)
    batches = SOURCE.evaluate(text, B)
    expected = cooccurrences.records(text, rule(3)).copy()
    expected["count"] *= np.float32(1000 / (tokens > 1).sum())
    assert pairs(batches, 0, len(batches)) == expected.tolist()
