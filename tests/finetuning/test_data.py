"""The examples of a task are split into training and development examples."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from train.data.examples.squad import Question
from train.data.examples.tables import TextExample
from train.data.examples.tagged import TaggedSentence
from train.finetuning.data import divide, load
from train.finetuning.settings import DataSettings
from train.finetuning.split import draw, few, strata
from train.finetuning.tasks.registry import TASKS

TASK = TASKS["classification"]
SETTINGS = DataSettings(task="classification")


def examples(*counts, groups=lambda number: ""):
    """So many examples of the classes a, b, c and so on, in this order."""
    labels = [label for label, count in zip("abcdef", counts, strict=False) for _ in range(count)]
    return [
        TextExample(f"text {number}", None, label, groups(number))
        for number, label in enumerate(labels)
    ]


def sizes(part):
    return Counter(example.label for example in part)


def test_few_examples_are_spread_over_the_file():
    data = {"train": examples(5, 5), "dev": examples(1)}
    spread = divide(TASK, {**data, "train": examples(5, 5)[::-1]}, replace(SETTINGS, limit=5))
    assert [example.text for example in spread["train"]] == [
        f"text {9 - n}" for n in range(0, 10, 2)
    ]
    assert divide(TASK, data, SETTINGS) == divide(TASK, data, replace(SETTINGS, limit=99)) == data


def test_a_tenth_of_every_class_is_drawn_by_the_seed():
    data = {"train": examples(100, 40, 7)}
    found = divide(TASK, data, SETTINGS)
    assert sizes(found["dev"]) == {"a": 10, "b": 4, "c": 1}
    assert sizes(found["train"]) == {"a": 90, "b": 36, "c": 6}
    assert sorted(found["train"] + found["dev"]) == sorted(data["train"])
    assert found == divide(TASK, data, SETTINGS)
    assert found != divide(TASK, data, replace(SETTINGS, split_seed=1))
    numbers = [int(example.text.split()[1]) for example in found["dev"]]
    assert numbers == sorted(numbers) != list(range(0, 147, 10))


def test_a_class_of_two_stays_in_training_and_that_is_said():
    found = divide(TASK, {"train": examples(60, 2)}, SETTINGS)
    assert sizes(found["dev"]) == {"a": 6}
    assert few(TASK, found) == [
        "too few training examples of 1 of 2 classes: b (2)",
        "too few development examples of 1 of 2 classes: b (0)",
    ]


def test_ten_candidates_of_a_question_stay_together_with_their_one_right_answer():
    candidates = [
        TextExample(f"{question} {n}", None, "no" if n else "yes", str(question))
        for question in range(40)
        for n in range(10)
    ]
    found = divide(TASK, {"train": candidates}, replace(SETTINGS, group="question"))
    assert sizes(found["dev"]) == {"yes": 4, "no": 36}
    sides = [{example.group for example in found[part]} for part in ("train", "dev")]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_all_sizes_keep_every_class_near_a_tenth(seed):
    random = np.random.default_rng(seed)
    names = random.choice(list("abc"), 3000, p=[0.7, 0.2, 0.1])
    groups = random.integers(0, 400, 3000)
    drawn = draw(list(names), list(groups), seed)
    assert not set(groups[drawn]) & set(groups[~drawn])
    for name in "abc":
        count = (names == name).sum()
        assert 0.06 < (names[drawn] == name).sum() / count < 0.14


def test_a_split_is_as_even_as_that_of_scikit_learn():
    from sklearn.model_selection import StratifiedShuffleSplit

    names = np.repeat(list("abcd"), [500, 130, 40, 30])
    splitter = StratifiedShuffleSplit(1, test_size=0.1, random_state=0)
    ((_, theirs),) = splitter.split(names, names)
    ours = draw(list(names), range(len(names)), 0)
    assert Counter(names[ours]) == Counter(names[theirs])


def test_an_example_of_several_classes_counts_for_its_rarest():
    assert strata([("O", "B-x"), ("O",), ("O", "B-x", "B-y"), ()]) == ["B-x", "O", "B-y", None]
    tagged = [TaggedSentence(("a",), ("O",))] * 50 + [TaggedSentence(("a",), ("B",))] * 10
    dev = divide(TASKS["tagging"], {"train": tagged}, SETTINGS)["dev"]
    assert Counter(sentence.labels for sentence in dev) == {("O",): 5, ("B",): 1}
    asked = [Question(str(n), "q", "c", (("c", 0),) * (n % 3 > 0)) for n in range(60)]
    dev = divide(TASKS["question-answering"], {"train": asked}, SETTINGS)["dev"]
    assert Counter(len(question.answers) for question in dev) == {1: 4, 0: 2}


@pytest.mark.parametrize(
    ("data", "settings", "line"),
    [
        ({"train": examples(1)}, {}, "1 training example: too few to take a tenth"),
        ({"train": examples(2, 2)}, {}, "4 training examples: too few to take a tenth"),
        ({"train": examples(9, groups=lambda _: "x")}, {"group": "g"},
         "9 training examples in 1 groups of --group g: too few"),
        ({"train": examples(1), "dev": examples(1)}, {}, "there is one training example"),
        ({"train": examples(5, 5), "dev": examples(1)}, {"limit": 1}, "or a higher --limit"),
        ({"train": examples(5, 1), "dev": examples(1)}, {}, "the label b has one example"),
        ({"train": examples(5, 5), "dev": examples(1, 1, 1)}, {},
         r"the label 'c' of the development data is not in the training data \(a, b\): remove it"),
        ({"train": examples(5, 5), "dev": examples(1, 1), "test": examples(0, 0, 1)}, {},
         "the label 'c' of the test data is not in"),
        ({"train": examples(4, 4, 2), "dev": examples(1, 1, 1)}, {"limit": 4},
         "the label 'c' of .*, or use a higher --limit"),
        ({"train": examples(5, 5), "dev": examples(1)}, {"labels": ("a", "c")},
         r"the label 'b' of the training data is not one of --labels \(a, c\): name it there"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_one_line(data, settings, line):
    with pytest.raises(ValueError, match=line) as error:
        divide(TASK, data, replace(SETTINGS, **settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "give either --train FILE or --tfds NAME"),
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"limit": -3}, "--limit must be at least 1, not -3"),
        ({"split_seed": -1}, "--split-seed must be at least 0"),
        ({"group": "author"}, "--group author: .* has no such column, but text, label"),
        ({"group": "text", "dev": "dev"}, "leave out --group or --dev"),
        ({"group": "x", "task": "text-to-text"}, "--group does not work with --task text-to-text"),
        ({"group": "x", "task": "tagging"}, "--group x: .* it needs JSON lines"),
    ],
)
def test_wrong_settings_are_one_line(settings, line, tmp_path):
    file = tmp_path / "train.tsv"
    file.write_text("text\tlabel\na\tx\n")
    given = {"train": file} | {k: file if v == "dev" else v for k, v in settings.items()}
    with pytest.raises(ValueError, match=line):
        load(replace(SETTINGS, **(given if settings else {})))


def test_a_column_of_groups_is_read_from_tables_and_json(tmp_path):
    rows = [{"text": f"a {n}", "label": "xy"[n % 2], "author": n // 4} for n in range(80)]
    table, lines = tmp_path / "train.tsv", tmp_path / "train.jsonl"
    table.write_text(
        "\n".join(["text\tlabel\tauthor", *("\t".join(map(str, r.values())) for r in rows)])
    )
    lines.write_text("\n".join(map(json.dumps, rows)))
    found = [load(replace(SETTINGS, train=file, group="author")) for file in (table, lines)]
    assert found[0] == found[1]
    (data, notes) = found[0]
    assert sizes(data["dev"]) == {"x": 4, "y": 4}
    assert len({example.group for example in data["dev"]}) == 2
    assert notes == ["too few development examples of 2 of 2 classes: x (4), y (4)"]
