"""Questions without an answer: a threshold is chosen on the dev data and stored with the model."""

import json

import numpy as np
import pytest

import zoo
from tests.tiny_task import DULL, GOOD, SETTINGS, tune
from train.data.examples.squad import Question
from train.finetuning import evaluate, finetune
from train.finetuning.tasks.registry import TASKS
from train.metrics import tasks
from zoo.formats import huggingface
from zoo.inference.answer import Answer, answer_or_none

TASK = TASKS["question-answering"]


def questions(count, seed):
    """Questions whose contexts have one good word, the answer, or in a third of them none."""
    draw, actual = np.random.default_rng(seed), []
    for number in range(count):
        words = [str(word) for word in draw.choice(DULL, 8)]
        answers = ()
        if number % 3:
            words[draw.integers(8)] = word = str(draw.choice(GOOD))
            answers = ((word, " ".join(words).index(word)),)
        actual.append(Question(str(number), "the", " ".join(words), answers))
    return actual


def test_the_threshold_of_the_dev_data_is_stored_and_used(tmp_path):
    data = {"train": questions(160, 0), "dev": questions(48, 1), "test": questions(30, 2)}
    metrics, _ = tune(tmp_path, SETTINGS, TASK, data)
    assert metrics["dev"][0]["f1"] > 0.9
    assert metrics["dev"][0]["f1_without_answer"] > 0.9
    assert "null_threshold" not in metrics["test"][0]  # it is not chosen again
    loaded = zoo.load(tmp_path / "out")
    threshold = metrics["dev"][0]["null_threshold"]
    assert loaded.model.config.null_threshold == threshold
    without, has = data["test"][0], data["test"][1]
    assert zoo.answer(loaded, "the", without.context)[:3] == ("", 0, 0)
    actual = zoo.answer(loaded, "the", has.context)
    assert (actual.text, actual.start) == has.answers[0]
    assert zoo.answer(loaded, "the", without.context, null_threshold=1e9).text
    assert not zoo.answer(loaded, "the", has.context, null_threshold=-1e9).text

    rows = [one._asdict() | {"answers": [a for a, _ in one.answers]} for one in data["test"]]
    file = tmp_path / "test.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    evaluation = evaluate.evaluate_folder(tmp_path / "out", file)
    assert evaluation.metrics == pytest.approx(metrics["test"][0])
    assert evaluation.predictions[0]["prediction"] == ""

    zoo.export(loaded, tmp_path / "published")
    fields = huggingface.read_config(tmp_path / "published")
    assert fields["null_score_diff_threshold"] == threshold
    assert zoo.load(tmp_path / "published").model == loaded.model
    again, _ = finetune.load(tmp_path / "out", TASK, (), SETTINGS)
    assert again.model.config.null_threshold is None  # of a new run


def drawn(seed, count=40):
    draw = np.random.default_rng(seed)
    asked, answers = [], []
    for number in range(count):
        gold = (("cat sat", 0),) * int(draw.integers(2))
        asked.append(Question(str(number), "q", "c", gold))
        text = str(draw.choice(["cat", "cat sat", "dog"]))
        scores = draw.integers(-6, 6, 2) / 2  # with equal ones among them
        answers.append(Answer(text, 0, 1, *map(float, scores)))
    return asked, answers


def f1(asked, answers, threshold):
    texts = {
        one.id: answer_or_none(best, threshold).text
        for one, best in zip(asked, answers, strict=True)
    }
    return tasks.question_answering(asked, texts)["f1"]


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_is_better_than_the_best(seed):
    asked, answers = drawn(seed)
    best = f1(asked, answers, tasks.best_null_threshold(asked, answers))
    assert best == max(f1(asked, answers, threshold) for threshold in np.arange(-8, 8, 0.25))


def test_the_best_f1_is_that_of_the_official_evaluation():
    metrics = pytest.importorskip("transformers.data.metrics.squad_metrics")
    for seed in range(8):
        asked, answers = drawn(seed)
        margins = {one.id: x.null_score - x.score for one, x in zip(asked, answers, strict=True)}
        if len(set(margins.values())) < len(margins):  # there, equal margins are kept apart
            draw = np.random.default_rng(seed).permutation(len(asked)) / 1000
            answers = [x._replace(score=x.score + d) for x, d in zip(answers, draw, strict=True)]
            margins = {
                one.id: x.null_score - x.score for one, x in zip(asked, answers, strict=True)
            }
        texts = {one.id: x.text for one, x in zip(asked, answers, strict=True)}
        scores = {one.id: tasks._f1(one, texts[one.id]) for one in asked}
        has = {one.id: bool(one.answers) for one in asked}
        expected, _ = metrics.find_best_thresh(texts, scores, margins, has)
        actual = f1(asked, answers, tasks.best_null_threshold(asked, answers))
        assert 100 * actual == pytest.approx(expected)


def test_questions_without_answer_are_scored_apart():
    asked = [Question("1", "q", "c", (("cat sat", 0),)), Question("2", "q", "c", ())]
    actual = tasks.question_answering(asked, {"1": "cat", "2": ""})
    assert actual == pytest.approx(
        {"exact_match": 0.5, "f1": 5 / 6, "f1_with_answer": 2 / 3, "f1_without_answer": 1.0}
    )
    assert tasks.question_answering(asked, {"1": "", "2": "cat"})["f1"] == 0


def test_data_without_any_answer_cannot_be_trained_on():
    with pytest.raises(ValueError, match="no question has an answer"):
        TASK.labels([Question("1", "q", "c", ())], ())
