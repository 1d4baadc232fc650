"""Multiple choice: the right ending is learned, and endings are read from files."""

import json
from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests.tiny_task import BAD, DULL, GOOD, SETTINGS, folder, tokenizer, tune
from train.data.examples.choices import Choice, read_choices
from train.finetuning import evaluate
from train.finetuning.batches import labelled_batches
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import LabelledRow
from zoo.inference.batching import Row
from zoo.models import rnn

TASK = TASKS["multiple-choice"]


def choices(count, seed):
    """Three endings each, of which the good one is right."""
    draw, examples = np.random.default_rng(seed), []
    for _ in range(count):
        right = int(draw.integers(3))
        words = [draw.choice(GOOD if n == right else BAD) for n in range(3)]
        endings = tuple(f"{draw.choice(DULL)} {word}" for word in words)
        examples.append(Choice("the film is", endings, right))
    return examples


@pytest.mark.parametrize("unfreeze", ["all", "head"])
def test_the_right_ending_is_learned_and_the_folder_chooses(unfreeze, tmp_path):
    data = {"train": choices(64, 0), "dev": choices(16, 1)}
    epochs = 6.0 if unfreeze == "all" else 1.0
    metrics, _ = tune(tmp_path, replace(SETTINGS, epochs=epochs, unfreeze=unfreeze), TASK, data)
    loaded = zoo.load(tmp_path / "out")
    assert type(loaded.model).__name__ == "BertMultipleChoice"
    if unfreeze == "head":
        return
    assert metrics["dev"][0]["accuracy"] > 0.9
    actual = zoo.choose(loaded, "the film is", ["a poor", "the lovely", "weak"])
    assert next(iter(actual)) == "the lovely"
    assert sum(actual.values()) == pytest.approx(1)
    file = tmp_path / "dev.jsonl"
    file.write_text("\n".join(json.dumps(example._asdict()) for example in data["dev"]))
    evaluation = evaluate.evaluate_folder(tmp_path / "out", file)
    assert evaluation.metrics == metrics["dev"][0]
    for wrong in ("a poor", ["fine"], ["fine", "fine"]):
        with pytest.raises(ValueError, match="two or more different endings"):
            zoo.choose(loaded, "the", wrong)
    with pytest.raises(ValueError, match="BertPretraining does not choose among endings"):
        zoo.choose(zoo.load(folder(tmp_path)), "the", ["a", "b"])


def test_a_batch_has_an_axis_of_choices():
    short, long = Row([1, 2], [0, 0]), Row([3] * 9, [0] * 9)
    rows = [LabelledRow([short, long], 1), LabelledRow([short, short], 0)]
    batches = labelled_batches(rows, 32, 2, (0,))
    assert batches.arrays["tokens"].shape[:2] == (3, 2)
    batch = batches(0)
    assert batch["tokens"].shape[:2] == (2, 2)
    assert batch["tokens"].shape[2] < 32
    first = int(batch["targets"].argmax())
    np.testing.assert_array_equal(batch["documents"].sum(-1)[first], [2, 9])


def test_choices_are_lists_or_numbered_columns(tmp_path):
    contents = {
        "a.jsonl": '{"context": "x", "endings": ["b", "c"], "label": 1}',
        "b.csv": "context,ending0,ending1,label\nx,b,c,1\n",
        "c.jsonl": '{"question": "x", "choices": ["b", "c"], "answer": "c"}',
        "d.jsonl": '{"q": "x", "choice_1": "b", "choice_2": "c", "label": 1}',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        columns = {"text": "q"} if name == "d.jsonl" else {}
        actual = read_choices(tmp_path / name, columns).examples
        assert actual == (Choice("x", ("b", "c"), 1),), name
    swag = {"startphrase": "x y", "sent1": "x", "sent2": "y", "ending0": "b", "ending1": "c"}
    rows = [swag | {"label": 0, "video": "v"}, swag | {"label": -1, "video": "w"}]
    (tmp_path / "swag.jsonl").write_text("\n".join(map(json.dumps, rows)))
    actual = read_choices(tmp_path / "swag.jsonl", {"group": "video"})
    assert actual.examples == (Choice("x", ("y b", "y c"), 0, "v"),)
    assert "1 of the 2 rows" in actual.notes[0]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([{"text": "x"}], "line 1 of .* has no field sent1 or context .*, but text: name it with"),
        ([{"context": "x", "endings": ["a", "b"]}], "has no field label or gold"),
        ([{"context": "x", "endings": ["a"], "label": 0}], "has no two endings"),
        ([{"context": "x", "endings": ["a", "b"], "label": 2}], "has the label '2', which is"),
        ([{"context": "x", "endings": ["a", ""], "label": 0}], "has an empty text or ending"),
        ([{"context": "x", "endings": ["a", "b"], "label": 0},
          {"context": "x", "endings": ["a", "b", "c"], "label": 0}],
         "line 2 of .* has 3 endings, but the first row has 2"),
        ([], "no rows in"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_choices_is_one_line(rows, line, tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=line) as error:
        read_choices(tmp_path / "a.jsonl", {})
    assert "\n" not in str(error.value)


def test_a_model_without_the_head_says_which_have_it(tmp_path):
    words = tokenizer(())
    sizes = {"max_length": 32, "num_layers": 1, "width": 16, "dropout": 0.0, "embed_width": 16}
    config = rnn.Config(vocab_size=words.get_vocab_size(), **sizes)
    start = folder(tmp_path, rnn, config, words)
    with pytest.raises(ValueError, match=r"this task needs bert, .*electra"):
        tune(tmp_path, task=TASK, data={"train": choices(4, 0), "dev": choices(4, 1)}, start=start)
