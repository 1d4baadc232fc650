"""Options that a command does not use, and inputs that a model was not trained for, are refused."""

import shutil
from pathlib import Path

import pytest

from tests import tiny_run, tiny_task
from train import __main__ as cli
from train.commands import command, infer
from train.finetuning import inputs
from train.finetuning.settings import BagOfWords, Distillation, Settings
from zoo.checkpoints import load, model_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in a folder with a causal model, a text, and examples."""
    monkeypatch.chdir(tmp_path)
    words = tiny_run.tokenizer()
    model_folder.write("gpt", "gpt2", tiny_run.CONFIG, tiny_run.wide_params(), words)
    Path("a.txt").write_text("w1 w2 w3")
    Path("a.tsv").write_text("text\tlabel\n" + "w1\tx\nw2\ty\n" * 20)
    Path("a.jsonl").write_text('{"question": "w1?", "context": "w2", "answers": ["w2"]}\n' * 2)


def refusal(name: str, *arguments: str) -> str:
    """The line with which a command is refused."""
    with pytest.raises(ValueError, match="--") as caught:
        command.parse(name, cli.COMMANDS[name], arguments).run()
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("generate gpt w1 --beams 2 --temperature 2", "--temperature has no effect on a beam"),
        ("generate gpt w1 --temperature 0 --top-k 2", "--top-k has no effect at temperature 0"),
        ("translate gpt w1 --beams 1 --length-penalty 2", "--length-penalty has no effect on a gr"),
        ("score gpt w1 --weight 2", "--weight is for --candidates"),
        ("score gpt --candidates a.txt --top 2", "--top has no effect with --candidates"),
        ("score gpt w1 --masked token", "--masked is for masked models"),
        ("prompt gpt --train a.tsv --data a.tsv --shots 0 --seeds 2", "--seeds has no effect with"),
        ("evaluate gpt --source a.txt", "--source is not for a GPT2LM, which is evaluated on text"),
        ("evaluate gpt --text a.txt --beams 2", "--beams is not for a GPT2LM, which is evaluated"),
        ("evaluate gpt --text a.txt --task tagging", "--task is not for a GPT2LM"),
        ("evaluate gpt --separator x", "--separator is for text files"),
        ("evaluate gpt --data a.tsv --text a.txt", "--text has no effect with --data"),
        ("evaluate gpt --minimal-pairs a.tsv --stride 2", "--stride has no effect with --minimal-"),
        ("pretrain gpt2-tiny --fields a b", "--fields is for pairs, not gpt2-tiny"),
        ("pretrain luong-tiny --fields a b", "--fields is for files: give --source"),
        ("pretrain luong-tiny --separator x", "--separator is for text files"),
        ("pretrain gpt2-tiny --separator x", "--separator is for text files"),
        ("pretrain gpt2-tiny --parallel pmap --mesh 2 1 1", "--mesh has no effect with --parallel"),
        ("pretrain ngram --evaluate-tokens 9", "ngram is counted, not trained step by step: omit"),
        ("import gpt out --ignore x", "--ignore is for a Hugging Face folder"),
        ("export gpt out.txt --model-class X", "--model-class is for a Hugging Face folder"),
        (
            "find-learning-rate gpt --task regression --train a.tsv --test a.tsv",
            "--test has no eff",
        ),
        ("find-learning-rate gpt --task regression --train a.tsv --low 2", "--low must be less th"),
        ("finetune gpt --task tagging --train a.tsv --columns pair=1", "--columns pair=1 is of no"),
        (
            "finetune gpt --task question-answering --train a.jsonl --columns text=1",
            "--columns text=1 is of no use to this task, which has its own names",
        ),
        ("finetune gpt --task classification --train a.tsv --labels x x", "--labels has 'x' twice"),
        (
            "finetune gpt --task question-answering --train a.jsonl --labels x",
            "--labels is for tasks with classes, not question-answering",
        ),
        (
            "finetune gpt --task classification --train a.tsv --dev a.tsv --split-seed 2",
            "--split-seed has no effect with --dev",
        ),
        (
            "finetune gpt --task classification --tfds x --test a.tsv",
            "--test cannot be combined with --tfds",
        ),
    ],
)
def test_an_option_without_effect_is_refused(arguments, line):
    assert refusal(*arguments.split()).startswith(line)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (Settings(unfreeze="head", layer_decay=0.5), "--layer-decay has no effect with --unfreeze"),
        (Settings(parallel_runs=2), "--parallel-runs needs more --seeds than one"),
        (Settings(parallel="pmap", mesh=(2, 1, 1)), "--mesh has no effect with --parallel pmap"),
        (Distillation(temperature=1.0), "--temperature needs --teacher"),
        (
            Distillation(teacher=Path("x"), distillation_loss="squared-error", temperature=1.0),
            "--temperature has no effect on --distillation-loss squared-error",
        ),
        (BagOfWords(negatives=2), "--negatives needs --loss negative-sampling"),
    ],
)
def test_a_setting_without_effect_is_refused(settings, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        settings.check()


def test_a_classifier_of_texts_refuses_pairs_and_the_reverse():
    texts = tiny_task.texts(2)
    pairs = [example._replace(pair="w1") for example in texts]
    for trained, other in ((texts, pairs), (pairs, texts)):
        kind = inputs.kind(trained)
        model, params, tokenizer = load.load("gpt")
        parts = "gpt2", model.config, params, tokenizer, type(model).__name__
        model_folder.write("out", *parts, trained_on=kind)
        inputs.check("out", kind)
        with pytest.raises(ValueError, match=f"^out was fine-tuned on {kind}, not on "):
            inputs.check("out", inputs.kind(other))
        shutil.rmtree("out")
    inputs.check("gpt", "texts")  # without a record
    assert inputs.kind([object()]) is None


@pytest.mark.parametrize("text", ["文" * 200, "w1 " * 5000, "w1\0w2", "a/b/c", ""])
def test_a_context_that_names_no_file_is_a_text(text):
    assert infer._content(text) == text


def test_a_context_that_names_a_file_is_its_text():
    assert infer._content("a.txt") == "w1 w2 w3"
