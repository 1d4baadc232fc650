"""A tokenizer is trained on no more text than its vocabulary needs."""

import numpy as np
import pytest

from tests import tiny_run
from tests.data.tiny_corpus import prepared, tokenizer
from train.data import sampling
from train.data.sources import parallel_text, text
from train.metrics import language_model
from train.pretraining import corpus


class Remembering(tiny_run.WordRecipe):
    """A recipe that tells what its tokenizer was trained on."""

    seen: list[str] = []

    def train_tokenizer(self, texts):
        self.seen[:] = texts
        return super().train_tokenizer(texts)


class RememberingPairs(Remembering):
    source_kind = "pairs"


def size(texts) -> int:
    return sum(len(text.encode()) for text in texts)


def trained_on(source, family=Remembering) -> list[str]:
    corpus.tokenizer(tiny_run.recipe(family=family), source)
    return Remembering.seen


@pytest.fixture
def small_bounds(monkeypatch):
    monkeypatch.setattr(sampling, "UNIT", 100)
    monkeypatch.setattr(corpus, "SAMPLE_BYTES_PER_ENTRY", 50)  # of 64 entries
    monkeypatch.setattr(corpus, "LEAST_SAMPLE_BYTES", 1000)
    monkeypatch.setattr(corpus, "MOST_SAMPLE_BYTES", 10_000)


def test_one_long_file_is_sampled_by_the_size_of_the_vocabulary(tmp_path, small_bounds):
    file = tmp_path / "long.txt"
    file.write_text("\n".join(tiny_run.documents(count=200)))
    assert 1400 < size(trained_on(text.files([file]))) <= 3200


@pytest.mark.parametrize(("name", "most"), [("MOST", 800), ("LEAST", 6000)])
def test_the_sample_has_a_least_and_a_most(small_bounds, monkeypatch, name, most):
    monkeypatch.setattr(corpus, f"{name}_SAMPLE_BYTES", most)
    assert 0.4 * most < size(trained_on(tiny_run.source(count=200))) <= most


def test_of_a_small_text_the_sample_is_everything():
    assert trained_on(tiny_run.source()) == tiny_run.documents()


def test_of_pairs_the_first_are_taken(monkeypatch):
    monkeypatch.setattr(corpus, "PAIRED_TEXTS_PER_ENTRY", 1)
    pairs = [(f"source {number}", f"target {number}") for number in range(100)]
    actual = trained_on(parallel_text.strings(pairs), RememberingPairs)
    assert actual == [side for pair in pairs[:32] for side in pair]


def test_the_unigram_baseline_of_a_corpus_is_that_of_its_tokens_read_in_parts(
    tmp_path, monkeypatch
):
    parts = prepared(tmp_path).split()
    arrays = [part.tokens[part.start : part.stop] for part in parts]
    expected = language_model.unigram_entropy(*arrays, 700)
    monkeypatch.setattr(language_model, "CHUNK", 777)
    predicted = [part.predicted_tokens(tokenizer("byte_level_bpe")) for part in parts]
    assert language_model.unigram_entropy(*predicted, 700) == expected
    for part, array in zip(predicted, arrays, strict=True):
        assert np.array_equal(part[:], array)
        assert not isinstance(part[3:9].base, np.memmap)  # read, so that it is no page of a map
