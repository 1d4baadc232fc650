"""`zoo pretrain ngram` from text to folder, and what the user can mend."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.commands.test_command_line import refusal, run
from train.counting import evaluate, loop
from train.counting import text as counted_text
from train.data.sources import text
from train.recipes.ngram import NGramRecipe
from zoo import tokenizers
from zoo.checkpoints import model_folder
from zoo.tokenizers import published, units


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    lines = [" ".join(f"w{number}" for number in draw.zipf(1.5, 8) % 40) for _ in range(150)]
    Path("train.txt").write_text("\n".join(lines[:120]) + "\n")
    Path("dev.txt").write_text("\n".join(lines[120:]) + "\n")


def test_a_text_becomes_a_folder_like_any_other(monkeypatch, capsys):
    files = ("--text", "train.txt", "--dev", "dev.txt", "--out", "model")
    printed = run(
        monkeypatch, "pretrain", "ngram", "--order", 3, *files, "--show", "counts", read=capsys
    )
    assert "order        n-grams  never seen       table" in printed
    assert {path.name for path in Path("model").iterdir()} == {
        *("model.json", "tokenizer.json", "params", "manifest.json", "log.jsonl")
    }
    manifest = json.loads(Path("model/manifest.json").read_text())
    assert manifest["estimator"] == "modified-kneser-ney"
    (event,) = map(json.loads, Path("model/log.jsonl").read_text().splitlines())
    assert f"perplexity {event['perplexity']:.4g}" in printed
    again = run(monkeypatch, "evaluate", "model", "--text", "dev.txt", read=capsys)
    assert f"perplexity: {event['perplexity']:.4f}" in again
    assert "ngram" in run(monkeypatch, "list", "--architecture", "ngram", read=capsys)
    run(monkeypatch, "export", "model", "model.arpa")
    run(monkeypatch, "import", "model.arpa", "imported")
    imported = run(monkeypatch, "evaluate", "imported", "--text", "dev.txt", read=capsys)
    actual = float(re.search(r"perplexity: (\S+)", imported)[1])
    assert math.isclose(actual, event["perplexity"], rel_tol=1e-5)


def test_metrics_are_those_of_the_probabilities_one_by_one(monkeypatch):
    # In parts of a few tokens, of which each needs the context of the one before.
    monkeypatch.setattr(evaluate, "CHUNK", 50)
    source, dev = text.files(["train.txt"]), text.files(["dev.txt"])
    recipe = NGramRecipe(order=3, min_count=3)
    metrics, orders = loop.pretrain(recipe, source, "model", dev=dev, report=lambda line: None)
    model, params, tokenizer = zoo.load("model")
    corpus = counted_text.corpus(dev, tokenizer, 1)
    tokens = corpus.read(corpus.start, corpus.stop)
    p_1L, found_1L = model.apply({"params": params}, tokens[None], method="score")
    nats = -np.log(np.asarray(p_1L, np.float64))[0, 1:]
    assert math.isclose(metrics["loss"], nats.mean(), rel_tol=1e-6)
    num_bytes = len(Path("dev.txt").read_bytes())
    bits = nats.mean() * len(tokens) / num_bytes / math.log(2)
    assert math.isclose(metrics["bits_per_byte"], bits, rel_tol=1e-6)
    unknown = tokens[1:] == 0
    assert math.isclose(metrics["unknown_share"], unknown.mean())
    expected = math.exp(nats[~unknown].mean())
    assert math.isclose(metrics["perplexity_without_unknown"], expected, rel_tol=1e-6)
    for row in orders[1:]:
        possible = np.arange(1, len(tokens)) >= row.order - 1
        seen = np.asarray(found_1L)[0, 1:] >= row.order
        assert math.isclose(row.unseen, 1 - seen.sum() / possible.sum())


def test_lines_are_documents_with_a_separator():
    source = text.files(["train.txt"], "\n")
    loop.pretrain(NGramRecipe(order=2), source, "model", report=lambda line: None)
    loaded = zoo.load("model")
    assert loaded.tokenizer.token_to_id(units.LINE_END) is None
    assert zoo.generate(loaded, "", max_new_tokens=5, seed=1).startswith(" w")


def test_any_tokenizer_with_an_end_gives_the_units():
    vocabulary = {
        letter: i for i, letter in enumerate(published.pre_tokenizers.ByteLevel.alphabet())
    }
    tokenizer = published.byte_level(published.models.BPE(vocabulary, []))
    with pytest.raises(ValueError, match=r"no token that ends a document: use one with </s>"):
        tokenizers.end_of_document(tokenizer)
    tokenizer.add_special_tokens([*published.GPT2_SPECIALS])
    zoo.tokenizers.save(tokenizer, "bytes")
    source = text.files(["train.txt"])
    recipe = NGramRecipe(order=4, units="token")
    metrics, _ = loop.pretrain(recipe, source, "model", tokenizer="bytes", report=lambda line: None)
    assert metrics["bits_per_byte"] < 4
    assert zoo.generate(zoo.load("model"), "w", max_new_tokens=4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--order", 0), "--order must be at least 1, not 0"),
        (("--min-count", 0), "--min-count must be at least 1, not 0"),
        (("--min-count", 10**6), "of which --min-count leaves 0"),
        (("--estimator", "good-turing"), "unknown --estimator 'good-turing': use one of"),
        (("--order", 2, "--prune", 0, 1, 2), "--prune 0 1 2 has 3 numbers, but the order is 2"),
        (("--tokenizer", "x", "--units", "word"), "--tokenizer and --units cannot be combined"),
        (("--steps", 5), "ngram is counted, not trained step by step: omit --steps"),
        (("--resume",), "ngram is counted, not trained step by step: omit --resume"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(monkeypatch, capsys, arguments, words):
    line = refusal(monkeypatch, capsys, "pretrain", "ngram", "--text", "train.txt", *arguments)
    assert words in line


def test_other_bad_input_is_one_line(monkeypatch, capsys):
    Path("short.txt").write_text("a b c")
    files = ("--text", "short.txt", "--dev", "short.txt", "--out", "short")
    line = refusal(monkeypatch, capsys, "pretrain", "ngram", *files)
    assert "fewer than the order 5" in line
    Path("same.txt").write_text("a a a a a a")
    line = refusal(monkeypatch, capsys, "pretrain", "ngram", "--text", "same.txt")
    assert "1 distinct word" in line
    line = refusal(monkeypatch, capsys, "pretrain", "lstm-lm-tiny", "--order", 3)
    assert line == "zoo: --order is for n-gram models, not lstm-lm-tiny"
    assert "did you mean 'ngram'" in refusal(monkeypatch, capsys, "pretrain", "ngramm")
    model_folder.write(Path("there"), "gpt2", NGramRecipe(), {"x": np.ones(2)})
    line = refusal(
        monkeypatch, capsys, "pretrain", "ngram", "--text", "train.txt", "--out", "there"
    )
    assert "there holds a model: use --overwrite to replace it, or another --out" in line
