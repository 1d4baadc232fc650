"""Class weights, label smoothing, texts with many labels, and windows of long texts."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.tiny_task import (
    BAD,
    CLASSIFICATION,
    DATA,
    GOOD,
    SETTINGS,
    texts,
    tokenizer,
    tune,
)
from train.data.examples.multi_label import LabelledText, read_labelled_texts
from train.data.examples.tables import TextExample
from train.data.examples.tagged import TaggedSentence
from train.finetuning import evaluate
from train.finetuning.batches import labelled_batches
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import LabelledRow
from train.finetuning.weighting import balanced, configured
from train.metrics import tasks
from train.objectives import cross_entropy
from zoo.inference.batching import Row

MULTI_LABEL = TASKS["multi-label"]
DRAW = np.random.default_rng(0)
LOGITS, TARGETS = DRAW.normal(size=(6, 3)).astype(np.float32), np.array([0, 2, 1, 1, 0, 2])
EACH = DRAW.integers(2, size=(6, 3))


def mean(term, weights):
    return float(term.loss / np.sum(weights))


# Class weights


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    names = list("aaaaaabbbc")
    actual = balanced(CLASSIFICATION, [TextExample("x", None, name) for name in names])
    expected = compute_class_weight("balanced", classes=np.array(list("abc")), y=names)
    assert [actual[name] for name in "abc"] == pytest.approx(expected)
    words = [TaggedSentence(tuple(names[:4]), tuple(names[:4]))]
    words += [TaggedSentence(tuple(names[4:]), tuple(names[4:]))]
    assert balanced(TASKS["tagging"], words) == pytest.approx(actual)


def test_a_label_among_many_weighs_as_its_absence_does():
    examples = [LabelledText("x", None, ("a",) if n else ("a", "b")) for n in range(4)]
    assert balanced(MULTI_LABEL, examples) == {"a": 0, "b": 3}
    task = replace(MULTI_LABEL, class_weights=(0.0, 3.0))
    row = {"targets": np.array([1, 1]), "documents": np.array([1])}
    np.testing.assert_array_equal(task.weights(row), [0, 3])
    np.testing.assert_array_equal(task.weights(row | {"targets": np.array([0, 0])}), [1, 1])
    np.testing.assert_array_equal(task.weights(row | {"documents": np.array([0])}), [0, 0])


@pytest.mark.parametrize("form", ["json", "tsv"])
def test_weights_are_read_from_a_file_in_the_order_of_the_labels(form, tmp_path):
    file = tmp_path / f"weights.{form}"
    file.write_text({"json": '{"good": 1, "bad": 2.5}', "tsv": "good\t1\nbad\t2.5\n"}[form])
    settings = Settings(class_weights=str(file), label_smoothing=0.1)
    task = configured(CLASSIFICATION, DATA["train"], ("bad", "good"), settings)
    assert (task.class_weights, task.label_smoothing) == ((2.5, 1.0), 0.1)
    row = {"targets": jnp.array(0), "documents": np.array([1])}
    assert float(task.weights(row)) == 2.5
    tagging = configured(TASKS["tagging"], (), ("bad", "good"), settings)
    np.testing.assert_array_equal(tagging.weights({"targets": np.array([-1, 0, 1])}), [0, 2.5, 1])


@pytest.mark.parametrize(
    ("task", "content", "settings", "line"),
    [
        ("classification", None, {}, "no such file; use balanced, or a file"),
        ("classification", "good 1", {}, "expected a JSON object, or lines of a label"),
        ("classification", "good\t1", {}, "the label 'bad' is not in the file"),
        ("classification", "good\t1\nbad\t1\nodd\t1", {}, "'odd' is not a label of the data"),
        ("classification", "good\t1\nbad\t-1", {}, "weights must be at least 0 and finite"),
        ("classification", "good\t0\nbad\t0", {}, "one above 0"),
        ("regression", "good\t1", {}, r"--class-weights does not work with this task \(Regress"),
        ("question-answering", None, {"class_weights": None, "label_smoothing": 0.1},
         "--label-smoothing does not work"),
        ("tagging", None, {"class_weights": None, "stride": 8}, "--stride does not work"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_weights_is_one_line(task, content, settings, line, tmp_path):
    file = tmp_path / "weights.tsv"
    if content:
        file.write_text(content)
    settings = replace(Settings(class_weights=str(file)), **settings)
    with pytest.raises((ValueError, FileNotFoundError), match=line) as error:
        configured(TASKS[task], DATA["train"], ("bad", "good"), settings)
    assert "\n" not in str(error.value)


def test_out_of_range_settings_are_named():
    for settings, line in (
        ({"label_smoothing": 1.0}, "--label-smoothing must be at least 0 and less than 1"),
        ({"label_smoothing": -0.1}, "--label-smoothing must be at least 0"),
        ({"stride": 0}, "--stride must be at least 1"),
    ):
        with pytest.raises(ValueError, match=line):
            Settings(**settings).check()


# Losses


def test_weighted_and_smoothed_losses_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    of = torch.nn.functional
    logits, targets, each = map(torch.from_numpy, (LOGITS, TARGETS, EACH))
    class_weights = np.array([0.5, 2, 1], np.float32)
    weights_B, ones_B = class_weights[TARGETS], np.ones(6, np.float32)
    actual = mean(cross_entropy.classify(LOGITS, TARGETS, weights_B), weights_B)
    expected = of.cross_entropy(logits, targets, weight=torch.from_numpy(class_weights))
    assert actual == pytest.approx(expected.item(), rel=1e-6)
    actual = mean(cross_entropy.classify(LOGITS, TARGETS, ones_B, 0.2), ones_B)
    expected = of.cross_entropy(logits, targets, label_smoothing=0.2)
    assert actual == pytest.approx(expected.item(), rel=1e-6)
    weights_BC = np.where(EACH, class_weights, 1)
    actual = cross_entropy.classify_each(LOGITS, EACH, weights_BC)
    expected = of.binary_cross_entropy_with_logits(
        logits, each.float(), pos_weight=torch.from_numpy(class_weights), reduction="sum"
    )
    assert float(actual.loss) == pytest.approx(expected.item(), rel=1e-6)
    assert float(actual.right) == (weights_BC * ((LOGITS > 0) == EACH)).sum()
    ones_BC = np.ones((6, 3))
    actual = mean(cross_entropy.classify_each(LOGITS, EACH, ones_BC, 0.2), ones_BC)
    expected = of.binary_cross_entropy_with_logits(logits, 0.8 * each + 0.1)
    assert actual == pytest.approx(expected.item(), rel=1e-6)


def test_smoothing_is_least_where_its_own_distribution_is_predicted():
    shares_C = np.array([0.9, 0.05, 0.05])
    gradient = jax.grad(lambda x: cross_entropy.classify(x, np.array([0]), np.ones(1), 0.15).loss)
    np.testing.assert_allclose(gradient(np.log(shares_C)[None].astype(np.float32)), 0, atol=1e-6)


# Many labels per text


def many(count, seed=0):
    """Return texts with two labels, good and praise, or with one, bad."""
    draw, examples = np.random.default_rng(seed), []
    for number in range(count):
        word = draw.choice(GOOD if number % 2 else BAD)
        labels = ("good", "praise") if number % 2 else ("bad",)
        examples.append(LabelledText(f"the {word} film", None, labels))
    return examples


def test_several_labels_per_text_are_learned_and_stored(tmp_path):
    data = {"train": many(128), "dev": many(32, 1)}
    settings = replace(SETTINGS, class_weights="balanced", label_smoothing=0.05)
    metrics, _ = tune(tmp_path, settings, MULTI_LABEL, data)
    assert metrics["dev"][0]["micro_f1"] > 0.95
    loaded = zoo.load(tmp_path / "out")
    assert type(loaded.model).__name__ == "BertMultiLabel"
    predictions = zoo.classify(loaded, ["the lovely film", "the poor film"])
    predicted = [{name for name, p in labels.items() if p > 0.5} for labels in predictions]
    assert predicted == [{"good", "praise"}, {"bad"}]
    file = tmp_path / "dev.jsonl"
    rows = [{"text": x.text, "labels": x.labels} for x in data["dev"]]
    file.write_text("\n".join(map(json.dumps, rows)))
    evaluation = evaluate.evaluate_folder(tmp_path / "out", file)
    assert evaluation.metrics == pytest.approx(metrics["dev"][0])
    assert set(evaluation.predictions[3]["targets"]) == {"good", "praise"}
    zoo.export(loaded, tmp_path / "published")
    fields = json.loads((tmp_path / "published" / "config.json").read_text())
    assert fields["problem_type"] == "multi_label_classification"
    assert fields["architectures"] == ["BertForSequenceClassification"]
    assert type(zoo.load(tmp_path / "published").model) is type(loaded.model)


def test_labels_are_lists_or_one_column_each(tmp_path):
    contents = {
        "a.jsonl": '{"text": "x", "labels": ["b", "a"]}\n{"text": "y", "labels": []}',
        "b.tsv": "text\ttags\nx\tb, a\ny\t",
        "c.csv": "id,text,b,a\n7,x,1,1\n8,y,0,0\n",
        "d.jsonl": '{"text": "x", "b": true, "a": 1}\n{"text": "y", "b": false, "a": 0}',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        columns = {"label": "tags"} if name == "b.tsv" else {}
        actual = read_labelled_texts(tmp_path / name, columns).examples
        expected = LabelledText("x", None, ("b", "a")), LabelledText("y", None, ())
        assert actual == expected, name


@pytest.mark.parametrize(
    ("content", "columns", "line"),
    [
        ("text\tid\nx\t7\n", {}, "has no labels: name the column"),
        ("text\tid\nx\t7\n", {"label": "tags"}, "has no column 'tags' for the label, but text, id"),
        ("text\ta\nx\t0\n", {}, "none of the 1 rows of .* has a label"),
        ("text\ta\n", {}, "no rows in"),
        ("text\ta\n \t1\n", {}, "has no text in 'text'"),
    ],
)
def test_what_is_wrong_with_labels_is_one_line(content, columns, line, tmp_path):
    (tmp_path / "a.tsv").write_text(content)
    with pytest.raises(ValueError, match=line):
        read_labelled_texts(tmp_path / "a.tsv", columns)


def test_labels_that_cannot_be_learned_are_named():
    examples = [LabelledText("x", None, ("a", "b")), LabelledText("x", None, ("a",))]
    with pytest.raises(ValueError, match="the label b has one example"):
        MULTI_LABEL.labels(examples, ())
    with pytest.raises(ValueError, match="no example has a label"):
        MULTI_LABEL.labels([LabelledText("x", None, ())], ())


def test_multi_label_scores_by_hand():
    actual = tasks.multi_label([[1, 0], [1, 1], [0, 0]], [[1, 0], [1, 0], [1, 0]])
    expected = {"micro_f1": 2 * 2 / (2 * 2 + 1 + 1), "macro_f1": 0.8 / 2, "exact_match": 1 / 3}
    assert actual == pytest.approx(expected)
    one = tasks.multi_label([[1], [0], [1]], [[1], [1], [0]])
    assert one["micro_f1"] == one["macro_f1"] == pytest.approx(0.5)


def test_as_many_labels_as_tokens_are_not_cut_as_tokens_are():
    rows = [LabelledRow(Row([1, 2, 3], [0] * 3), (1,) * 32) for _ in range(4)]
    batch = labelled_batches(rows, 32, 2, (0,))(0)
    assert batch["tokens"].shape[1] < 32
    assert batch["targets"].shape == (2, 32)


# Windows


def test_a_long_text_is_classified_by_the_mean_of_its_windows(tmp_path):
    long = [
        text._replace(text=" ".join([text.text] * (12 + 5 * (number % 2))))
        for number, text in enumerate(texts(48))
    ]
    data = {"train": long, "dev": long[:16]}
    settings = replace(SETTINGS, epochs=4.0, stride=20)
    metrics, notes = tune(tmp_path, settings, data=data)
    assert not notes  # nothing is truncated
    assert metrics["dev"][0]["accuracy"] > 0.9
    task = replace(CLASSIFICATION, stride=20)
    rows = task.rows(zoo.Loaded(None, None, tokenizer()), long[0], ("bad", "good"), 32)
    assert len(rows) > 1
    assert {row.target for row in rows} == {0}
    file = tmp_path / "dev.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{x.text}\t{x.label}\n" for x in data["dev"]))
    evaluation = evaluate.evaluate_folder(tmp_path / "out", file, stride=20)
    assert evaluation.metrics == pytest.approx(metrics["dev"][0])
    actual = zoo.classify(zoo.load(tmp_path / "out"), long[0].text, stride=20)
    assert actual == pytest.approx(evaluation.predictions[0]["probabilities"], abs=1e-5)
