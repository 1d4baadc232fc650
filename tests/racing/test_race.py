"""A race on a text of one minute's reading: what it writes, what it counts, and what it refuses."""

import json
import math
import os
import re
import struct

import numpy as np
import pytest

from tests import tiny_run
from train.__main__ import main
from train.data.sources import text
from train.racing import entrants, measure, race, results, table

# Small networks: a race of four takes some seconds.
SMALL = {
    "fixed-window": {"width": 16, "embed_width": 8, "window": 2},
    "awd-lstm": {"width": 8, "cell_width": 8},
    "roberta": {"num_layers": 1, "num_heads": 1, "head_width": 8, "width": 8, "mlp_width": 8},
}
VOCABULARY = 280


@pytest.fixture
def small(monkeypatch):
    """Make the entrants small, and each of their steps as long as 1 / 20 of a budget of 60 s."""
    for name, config in SMALL.items():
        chosen = entrants.ENTRANTS[name]
        changed = {**vars(chosen), "config": {**chosen.config, **config}, "batch": 2, "length": 32}
        monkeypatch.setitem(entrants.ENTRANTS, name, entrants.Entrant(**changed))
    monkeypatch.setitem(
        entrants.ENTRANTS, "ngram", entrants.CountedEntrant(paper="Shannon 1948", orders=(1, 2))
    )
    monkeypatch.setattr(measure, "step_seconds", lambda run, trial: 3.0)
    monkeypatch.setattr(results, "ROWS", 2)


@pytest.fixture
def files(tmp_path):
    train, dev = tmp_path / "train.txt", tmp_path / "dev.txt"
    train.write_text("\n\n".join(tiny_run.documents(0, 40)))
    dev.write_text("\n\n".join(tiny_run.documents(1, 8)))
    return train, dev


def _race(files, out, *more):
    train, dev = files
    line = f"race --text {train} --dev {dev} --vocab-size {VOCABULARY} --out {out} --prompt w1"
    main([*line.split(), "--separator", r"\n\n", *more])


def test_every_kind_of_entrant_finishes_and_none_is_trained_again(small, files, tmp_path, capsys):
    out, names = tmp_path / "race", ["ngram", "fixed-window", "awd-lstm", "roberta"]
    _race(files, out, "--minutes", "4", "--entrants", *names)
    record = json.loads((out / "race.json").read_text())
    assert list(record["results"]) == names
    for name, result in record["results"].items():
        curve = result["curve"]
        assert result["sample"].startswith("w1")
        assert np.isfinite([list(point.values()) for point in curve]).all()
        assert np.all(np.diff([point["flop"] for point in curve]) > 0)
        planned = record["planned"].get(name)
        if planned:
            assert np.all(np.diff([point["seconds"] for point in curve]) > 0)
            assert result["steps"] == planned["steps"] == 20
            assert result["flop"] == 20 * planned["step_flop"]
            assert result["tokens"] == 20 * 2 * 32
    masked = record["results"]["roberta"]
    assert masked["pseudo_bits_per_byte"] > 0
    assert "perplexity_per_word" not in masked
    # The words of the held-out text all occur in the text, so the 5-gram of words takes part.
    assert record["word_ngram"]["perplexity_per_word"] > 1
    shown = capsys.readouterr().out
    assert "5-gram of words" in shown
    assert "pseudo bits per byte" in shown
    png = (out / "race.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert width > height > 500

    before = {name: os.stat(out / name / "params").st_mtime_ns for name in names[1:]}
    interrupted = record["results"].pop("awd-lstm")
    (out / "race.json").write_text(json.dumps(record))
    _race(files, out, "--minutes", "4", "--entrants", *names, "--resume")
    again = json.loads((out / "race.json").read_text())["results"]
    after = {name: os.stat(out / name / "params").st_mtime_ns for name in names[1:]}
    assert {name for name in before if before[name] != after[name]} == {"awd-lstm"}
    assert again["awd-lstm"]["bits_per_byte"] == interrupted["bits_per_byte"]
    with pytest.raises(SystemExit):
        _race(files, out, "--minutes", "4", "--entrants", *names)
    assert "use --resume to continue it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        _race(files, out, "--minutes", "5", "--entrants", *names, "--resume")
    assert "minutes was 4.0, is 5.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--minutes", "1000"], "the text is too short for --minutes 1000: fixed-window would"),
        (["--minutes", "0.1"], "--minutes 0.1 permits 2 steps of fixed-window, which are no"),
        (["--minutes", "0"], "--minutes must be more than 0"),
        (["--entrants", "gtp2"], "unknown entrant 'gtp2'; did you mean 'gpt2'?"),
        (["--vocab-size", "100"], "the text yields a vocabulary of 261, not 100"),
        (["--vocab-size", "9999"], "give more text, or use another --vocab-size"),
        (["--out", "/proc/none"], "/proc/none"),
        (["--out", __file__], "is a file: give the name of a folder"),
        (["--resume", "--overwrite"], "cannot be combined"),
    ],
)
def test_what_cannot_be_raced_is_refused_in_one_line(more, message, small, files, tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        _race(files, tmp_path / "out", "--entrants", "fixed-window", *more)
    error = capsys.readouterr().err
    assert ending.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_record_is_refused(tmp_path):
    (tmp_path / "race.json").write_text('{"settings": 3}')
    with pytest.raises(ValueError, match="is damaged: use --overwrite"):
        race.read(tmp_path)


def test_the_flop_of_a_step_are_those_of_its_products_by_hand(tmp_path):
    """Two layers of weights, forward and twice backward; embeddings are only looked up."""
    source = text.strings(tiny_run.documents())
    recipe = entrants.entrant_recipe("fixed-window", 300, 0)
    raced = race.Race(
        source=source, dev=None, out=tmp_path, entrants=("fixed-window",), minutes=1, vocab_size=300
    )
    race._tokenizer(raced)
    run = measure.prepare(recipe, source, tmp_path / "x", tokenizer=tmp_path / "tokenizer")
    tokens, window, embed, width = 8 * 64, 8, 64, 192
    products = 2 * tokens * (window * embed * width + width * 300)
    assert measure.step_flop(run) == 3 * products


def test_the_seconds_of_a_step_are_those_of_the_report_after_it():
    events = [
        {"kind": "train", "step": 2},
        {"kind": "train", "step": 4, "tokens_per_second": 50.0},
        {"kind": "held_out", "step": 4, "loss": 1.0},
        {"kind": "train", "step": 6, "tokens_per_second": 25.0},
    ]
    seconds = results.seconds_by_step(events, 7, 100, usual=9.0)
    np.testing.assert_allclose(seconds, [0, 2, 4, 6, 8, 12, 16, 20])
    np.testing.assert_allclose(results.seconds_by_step([], 2, 100, usual=9.0), [0, 9, 18])


def test_perplexity_per_word_shares_the_bits_of_the_text_among_its_words():
    held_out = results.HeldOut(None, bytes=600, words=100)
    assert results.word_perplexity(1.5, held_out) == 2**9
    assert math.isfinite(results.word_perplexity(1e9, held_out))


def test_the_tables_begin_with_the_best():
    result = {"parameters": 10, "tokens": 5, "flop": 1e9, "seconds": 2.0, "panel": "causal"}
    one = {**result, "bits_per_byte": 2.5, "perplexity_per_word": 90.0, "sample": "The\n end"}
    record = {
        "results": {"rnn": one, "gpt": {**one, "bits_per_byte": 1.5, "perplexity_per_word": 30.0}},
        "text": {"bytes": 60, "words": 10},
        "word_ngram": {"perplexity_per_word": 60.0},
    }
    lines = table.tables(record)
    rows = "language|perplexity|samples|gpt|rnn|5-gram of words"
    assert re.findall(f"(?m)^(?:{rows})", "\n".join(lines)) == [
        *("language", "gpt", "rnn", "perplexity", "gpt", "5-gram of words", "rnn"),
        *("samples", "gpt", "rnn"),
    ]
    assert "The end" in lines[-1]
