"""GloVe is trained on a text like any other recipe; its unit is a pair of words."""

import signal
from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests import tiny_run
from train.data.sources import text
from train.pretraining import pretrain as pretraining
from train.recipes import glove
from train.recipes.recipe import with_fields
from train.reporting.progress import Report
from zoo.checkpoints.arrays import read_record
from zoo.params import flatten


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "glove"))


def recipe(**fields):
    run = with_fields(glove.tiny(), batch=2, length=100, report_every=5)
    config = replace(run.config, vocab_size=64, width=8)
    return replace(run, config=config, window=3, block_size=16, min_count=1, epochs=2, **fields)


def pretrain(folder, *, source=None, **fields):
    resume = fields.pop("resume", False)
    return pretraining.pretrain(
        recipe(**fields), source or tiny_run.source(), folder, resume=resume
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a finished run and its metrics."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "glove"))
        return folder, pretrain(folder)


def test_vectors_are_learned_and_can_be_loaded(finished, capsys):
    folder, metrics = finished
    assert metrics.keys() == {"loss"}
    loaded = zoo.load(folder)
    words = [word for word in tiny_run.WORDS if loaded.tokenizer.token_to_id(word) is not None]
    ids = np.array([loaded.tokenizer.token_to_id(word) for word in words])
    x_ND = loaded.model.word_vectors(loaded.params, words, ids)
    expected = np.asarray(loaded.params["words"] + loaded.params["contexts"])[ids]
    np.testing.assert_array_equal(x_ND, expected)


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path, monkeypatch, capsys):
    stop = lambda report, steps: (
        signal.raise_signal(signal.SIGTERM) if steps and steps[-1][0] == 5 else None
    )
    with monkeypatch.context() as patch:
        patch.setattr(Report, "steps", stop)
        assert pretrain(tmp_path) == {}
    assert pretrain(tmp_path, resume=True) == finished[1]
    output = capsys.readouterr().out
    assert "resuming from step 5" in output
    assert "pairs to train on" in output
    assert "x 100 pairs: 2.1 epochs" in output
    assert "tokens" not in output
    assert "unigram" not in output
    params, expected = (flatten(zoo.load(folder).params) for folder in (tmp_path, finished[0]))
    assert all((params[path] == expected[path]).all() for path in expected)
    last = sorted((tmp_path / "checkpoints").iterdir(), key=lambda step: int(step.name))[-1]
    assert read_record(last) == read_record(finished[0] / "checkpoints" / last.name)


def test_a_text_without_pairs_is_refused(tmp_path):
    lines = text.strings(["\n\n".join("abcdefgh" * 30) + "\n"])
    with pytest.raises(ValueError, match=r"^no line of the text has two words"):
        pretrain(tmp_path, source=lines)
