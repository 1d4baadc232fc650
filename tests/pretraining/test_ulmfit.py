"""ULMFiT as a user runs it: a language model, the text of a task, a classifier, both directions."""

import json

import numpy as np
import pytest

import zoo
from train import __main__ as cli
from train.data.sources import text
from train.pretraining import new_words
from zoo.params import flatten

NO_DROPOUT = [f"{name}=0" for name in ("dropout", "input_dropout", "weight_dropout")]
SMALL = ["width=12", "cell_width=16", "num_layers=1", "hidden_dropout=0", *NO_DROPOUT]
QUICK = ["--batch", "2", "--length", "10", "--epochs", "1", "--samples", "0"]


def zoo_command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["zoo", *map(str, arguments)])
    cli.main()
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ulmfit")
    draw = np.random.default_rng(0)
    general = [" ".join(draw.choice(list("abcdef"), 12)) for _ in range(30)]
    (folder / "general.txt").write_text("\n".join(general))
    good = [["film", "a", "a", "b", "plot", "a"], ["film", "c", "d", "d", "plot", "c"]]
    task = [(draw.permutation(good[n % 2]), ("yes", "no")[n % 2]) for n in range(24)]
    (folder / "task.txt").write_text("\n".join(" ".join(words) for words, _ in task))
    rows = "\n".join(f"{' '.join(words)}\t{label}" for words, label in task)
    (folder / "task.tsv").write_text(f"text\tlabel\n{rows}\n")
    return folder


def test_three_commands_train_a_classifier_in_each_direction(files, monkeypatch, capsys):
    run = lambda *arguments: zoo_command(monkeypatch, capsys, *arguments)
    for direction in ("forward", "backward"):
        out = files / direction
        config = ["--config", f"direction={direction}", *SMALL]
        text = ["--text", files / "general.txt"]
        run("pretrain", "awd-lstm-tiny", *text, *QUICK, *config, "--out", out / "lm")
        init = ["--init", out / "lm", "--add-words", 2, "--text", files / "task.txt"]
        tuned = run("pretrain", "ulmfit", *init, *QUICK, "--out", out / "task")
        assert ("a sample:" in tuned) == (direction == "forward")
        model, params, tokenizer = zoo.load(out / "task")
        assert model.config.direction == direction
        assert {"film", "plot"} < set(tokenizer.get_vocab())
        assert len(flatten(params)["trunk/token_embedding/embedding"]) == tokenizer.get_vocab_size()
        data = ["--task", "classification", "--train", files / "task.tsv"]
        how = ["--unfreeze", "gradual", "--schedule", "slanted", "--layer-decay", 0.385]
        # The best of three seeds: some heads of this tiny model do not begin to learn.
        more = ["--learning-rate", "3e-2", "--epochs", 9, "--batch", 8, "--seeds", 3]
        run("finetune", out / "task", *data, *how, *more, "--out", out / "classifier")
        results = json.loads((out / "classifier" / "results.json").read_text())
        assert max(metrics["accuracy"] for metrics in results["metrics"]["dev"]) == 1
    folders = files / "forward" / "classifier", files / "backward" / "classifier"
    single = run("evaluate", folders[0], "--data", files / "task.tsv")
    both = run("evaluate", folders[0], "--data", files / "task.tsv", "--average-with", folders[1])
    assert "accuracy: 1.0000" in single
    assert "accuracy: 1.0000" in both
    with pytest.raises(SystemExit):
        run("generate", files / "backward" / "task", "a b")


def test_words_are_added_to_models_of_words_only(files, tmp_path):
    source = text.files([files / "task.txt"])
    with pytest.raises(ValueError, match="--add-words must be at least 1, not 0"):
        new_words.extend(files, source, 0, tmp_path / "out")
