"""Metrics of tasks agree with values worked out by hand."""

import json
import math

import pytest

from train.data.examples.squad import Question
from train.metrics import tasks


def test_classification_metrics_are_those_of_the_counts():
    # Two right and one wrong of the first class, one right and one wrong of the second.
    metrics = tasks.classification([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], ("no", "yes"))
    assert metrics == pytest.approx(
        {"accuracy": 3 / 5, "f1": 1 / 2, "macro_f1": (2 / 3 + 1 / 2) / 2, "matthews": 1 / 6}
    )
    assert json.dumps(metrics)


def test_only_two_classes_have_an_f1_of_one_class():
    metrics = tasks.classification([0, 1, 2, 2], [0, 1, 2, 1], ("a", "b", "c", "never seen"))
    assert list(metrics) == ["accuracy", "macro_f1", "matthews"]
    assert metrics["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("labels", "predictions"), [([0, 1], [0, 0]), ([1, 1], [1, 1]), ([0], [0])]
)
def test_a_constant_prediction_has_no_correlation_and_no_warning(labels, predictions):
    metrics = tasks.classification(labels, predictions, ("no", "yes"))
    assert metrics["matthews"] == 0
    assert tasks.regression(labels, [2.5] * len(labels)) == {"pearson": 0, "spearman": 0}


def test_regression_is_evaluated_by_correlation_of_values_and_of_ranks():
    metrics = tasks.regression([1, 2, 3, 4], [1, 2, 3, 10])
    assert metrics["spearman"] == pytest.approx(1)
    assert metrics["pearson"] == pytest.approx(14 / math.sqrt(5 * 50))
    with_ties = tasks.regression([1, 1, 2], [1, 2, 3])
    assert with_ties["spearman"] == pytest.approx(math.sqrt(3) / 2)
    assert tasks.regression([1, 2], [2, 1])["pearson"] == pytest.approx(-1)


def test_an_entity_must_be_predicted_completely():
    gold = [["B-a", "I-a", "O", "B-creative-work"], ["O", "B-a"]]
    predictions = [["B-a", "I-a", "O", "I-creative-work"], ["B-a", "O"]]
    assert tasks.tagging(gold, predictions) == pytest.approx(
        {"accuracy": 3 / 6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    )
    truncated = tasks.tagging([["B-a", "I-a"]], [["B-a", "O"]])
    assert (truncated["accuracy"], truncated["f1"]) == (0.5, 0)
    assert tasks.tagging([["O", "O"]], [["O", "O"]])["f1"] == 0


@pytest.mark.parametrize(
    "tags",
    [
        "O B-PER I-PER B-PER O B-LOC",  # IOB2
        "O I-PER I-PER B-PER O I-LOC",  # IOB1
        "O B-PER E-PER S-PER O S-LOC",  # IOBES
        "O B-PER L-PER U-PER O U-LOC",  # BILOU
        "O I-PER E-PER E-PER O E-LOC",  # IOE2
    ],
)
def test_entities_are_those_of_every_scheme(tags):
    gold = tags.split()
    one_wrong = [*gold[:5], "O"]
    assert tasks.tagging([gold], [gold])["f1"] == 1
    scores = tasks.tagging([gold], [one_wrong])
    assert (scores["precision"], scores["recall"]) == (1, pytest.approx(2 / 3))


def test_tags_that_are_not_entities_have_only_an_accuracy():
    assert tasks.tagging([["NOUN", "VERB"]], [["NOUN", "NOUN"]]) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("predicted", "exact", "f1"),
    [
        ("Denver Broncos", 1, 1),
        ("the  denver, BRONCOS!", 1, 1),
        ("A Denver-Broncos", 0, 0),  # without its hyphen it is one word
        ("Broncos", 0, 2 / 3),
        ("Broncos of Denver", 0, 4 / 5),
        ("the theatre", 0, 0),
        ("Carolina Panthers", 1, 1),  # the second answer
        ("Panthers Panthers", 0, 1 / 2),  # a word counts once
        ("the", 0, 0),
        ("", 0, 0),
    ],
)
def test_answers_follow_the_published_rule(predicted, exact, f1):
    question = Question("1", "Who?", "", (("Denver Broncos", 0), ("The Carolina Panthers", 0)))
    metrics = tasks.question_answering([question], {"1": predicted})
    assert metrics == pytest.approx({"exact_match": exact, "f1": f1})


def test_a_missing_answer_is_wrong():
    questions = [
        Question(name, "Who?", "", ((answer, 0),)) for name, answer in (("1", "x"), ("2", "the"))
    ]
    assert tasks.question_answering(questions, {"1": "x"}) == {"exact_match": 0.5, "f1": 0.5}


def test_identical_predictions_have_collapsed():
    assert tasks.collapsed([1, 1, 1])
    assert tasks.collapsed(["a", "a"])
    assert not tasks.collapsed([1, 0])


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda: tasks.classification([0, 1], [0], "ab"),
            "1 predictions cannot be scored",
        ),
        (lambda: tasks.regression([], []), "0 predictions cannot be scored"),
        (lambda: tasks.tagging([["O", "O"]], [["O"]]), "1 predictions cannot be scored"),
        (lambda: tasks.question_answering([], {}), "there are no questions to score"),
    ],
)
def test_inputs_that_cannot_be_evaluated_are_an_error_of_one_line(call, line):
    with pytest.raises(ValueError, match=line):
        call()
