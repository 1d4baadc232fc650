"""Metrics of language models against values worked out by hand."""

import collections
import math

import numpy as np
import pytest

from train.metrics import language_model
from train.objectives.causal import Causal
from train.objectives.next_sentence import NextSentence


def test_perplexity_of_a_uniform_prediction_is_the_number_of_choices():
    assert language_model.perplexity(math.log(8192)) == pytest.approx(8192)
    assert language_model.perplexity(0.0) == 1
    assert language_model.perplexity(1e4) == math.inf


def test_a_uniform_prediction_of_bytes_takes_eight_bits_per_byte():
    assert language_model.bits_per_byte(math.log(256), 1.0) == pytest.approx(8)
    assert language_model.bits_per_byte(math.log(2), 0.25) == pytest.approx(0.25)


def test_perplexity_is_that_of_the_reported_term_and_bits_per_byte_needs_every_token():
    losses = {"loss": 3.0, "masked_loss": 2.0, "next_loss": 1.0}
    pairs = NextSentence(vocab_size=9, mask=1, specials=(), num_predictions=1)
    derived = language_model.add_derived(losses, pairs, 0.25)
    assert derived == {**losses, "perplexity": pytest.approx(math.exp(2))}
    derived = language_model.add_derived({"loss": 3.0}, Causal(0), 0.25)
    assert derived["perplexity"] == pytest.approx(math.exp(3))
    assert derived["bits_per_byte"] == pytest.approx(3 / math.log(2) / 4)


def test_baselines_are_compared_only_with_the_reported_term():
    pairs = NextSentence(vocab_size=9, mask=1, specials=(), num_predictions=1)
    assert language_model.reported_loss(pairs) == "masked_loss"
    assert language_model.reported_loss(Causal(0)) == "loss"


def test_unigram_entropy_equals_a_plain_sum_over_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(language_model, "CHUNK", 7)
    rng = np.random.default_rng(0)
    train = rng.zipf(1.5, 500).clip(max=49).astype(np.uint16)
    held_out = rng.integers(0, 50, 60).astype(np.uint16)
    assert set(held_out.tolist()) - set(train.tolist()), "some held-out token must be new"
    train.tofile(tmp_path / "train.bin")
    mapped = np.memmap(tmp_path / "train.bin", np.uint16, "r")
    counts = collections.Counter(train.tolist())
    nats = -sum(math.log((counts[int(t)] + 1) / (500 + 50)) for t in held_out) / 60
    assert language_model.unigram_entropy(mapped, held_out, 50) == pytest.approx(nats, rel=1e-12)


def test_without_training_tokens_the_unigram_model_is_uniform():
    empty = np.zeros(0, np.uint16)
    assert language_model.unigram_entropy(empty, np.arange(10), 64) == pytest.approx(math.log(64))


@pytest.mark.parametrize("tokens", [[0, 64], [-1, 3]])
def test_tokens_outside_of_the_vocabulary_are_named(tokens):
    with pytest.raises(ValueError, match=f"from {min(tokens)} to {max(tokens)}.*of 64"):
        language_model.unigram_entropy(np.array(tokens), np.arange(4), 64)


def test_no_held_out_tokens_are_an_error():
    with pytest.raises(ValueError, match="held-out tokens"):
        language_model.unigram_entropy(np.arange(4), np.zeros(0, np.uint16), 64)
