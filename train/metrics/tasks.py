"""Metrics of fine-tuning tasks, from 0 to 1 (correlations from -1 to 1).

F1 and Matthews correlation come from scikit-learn, other correlations from scipy, entity scores
from seqeval. Answers are scored like in the official evaluation of SQuAD 1.1 (Rajpurkar et al.
2016, section 6.1). These are the definitions that papers report.
"""

import itertools
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from train.data.examples.squad import Question
from train.data.examples.tagged import is_scheme
from zoo.inference.answer import Answer

AS_IOBES = {"L": "E", "U": "S", "M": "I"}


def classification(
    labels: Sequence[int], predictions: Sequence[int], names: Sequence[str]
) -> dict[str, float]:
    """Return accuracy, F1 of the second of two classes, macro F1, and Matthews correlation.

    Macro F1 is the mean over the classes that occur.

    Args:
      labels: The true classes, as indices into `names`.
      predictions: The predicted classes, likewise.
      names: The names of the classes.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    _check_lengths(labels, predictions)
    f1 = lambda of: f1_score(labels, predictions, labels=of, average="macro", zero_division=0)
    one_class = collapsed(labels) and collapsed(predictions)  # scikit-learn would warn
    metrics = {
        "accuracy": np.mean(np.equal(labels, predictions)),
        **({"f1": f1([1])} if len(names) == 2 else {}),
        "macro_f1": f1(None),
        "matthews": 0.0 if one_class else matthews_corrcoef(labels, predictions),
    }
    return {name: float(value) for name, value in metrics.items()}


def multi_label(
    labels: Sequence[Sequence[bool]], predictions: Sequence[Sequence[bool]]
) -> dict[str, float]:
    """Return micro and macro F1, and the fraction of examples all of whose labels are right.

    Args:
      labels: For each example, whether it has each label.
      predictions: The predicted ones, likewise.
    """
    from sklearn.metrics import f1_score

    _check_lengths(labels, predictions)
    sides = np.array(labels, int), np.array(predictions, int)
    if sides[0].shape[1] == 1:  # scikit-learn would count the absence of a single label too
        f1 = dict.fromkeys(("micro", "macro"), f1_score(*map(np.ravel, sides), zero_division=0))
    else:
        f1 = {kind: f1_score(*sides, average=kind, zero_division=0) for kind in ("micro", "macro")}
    exact = (sides[0] == sides[1]).all(1).mean()
    metrics = {"micro_f1": f1["micro"], "macro_f1": f1["macro"], "exact_match": exact}
    return {name: float(value) for name, value in metrics.items()}


def regression(labels: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Return the Pearson and Spearman correlations; 0 if labels or predictions are constant."""
    from scipy.stats import pearsonr, spearmanr

    _check_lengths(labels, predictions)
    if collapsed(labels) or collapsed(predictions):
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(labels, predictions).statistic),
        "spearman": float(spearmanr(labels, predictions).statistic),
    }


def tagging(
    labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return the accuracy per word, and precision, recall and F1 of entities if labels mark them.

    An entity is correct if its words and its type are correct, as in CoNLL 2003. The labels may be
    those of IOB1, IOB2, IOE, IOBES (also with M for I) or BILOU.
    """
    from seqeval import metrics

    _check_lengths(labels, predictions)
    for pair in zip(labels, predictions, strict=True):
        _check_lengths(*pair)
    sides = [list(itertools.chain.from_iterable(side)) for side in (labels, predictions)]
    accuracy = {"accuracy": float(np.mean([a == b for a, b in zip(*sides, strict=True)]))}
    if not is_scheme({*sides[0], *sides[1]}):
        return accuracy
    lists = [
        [list(map(_as_iobes, sentence)) for sentence in side] for side in (labels, predictions)
    ]
    score = lambda name: float(getattr(metrics, f"{name}_score")(*lists, zero_division=0))
    return accuracy | {name: score(name) for name in ("precision", "recall", "f1")}


def _as_iobes(label: str) -> str:
    """Return a label of BILOU as seqeval reads it: E for the last word, S for the only one."""
    return AS_IOBES.get(label[0], label[0]) + label[1:]


def question_answering(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> dict[str, float]:
    """Return the fraction of exact matches and the mean word F1, each against the best answer.

    For a question without answers, only "" is right; then also the F1 of the questions with and of
    those without answers is returned (Rajpurkar et al. 2018, https://arxiv.org/abs/1806.03822).

    Args:
      questions: Questions with their answers.
      predictions: The predicted text by question id; a missing prediction counts as wrong.
    """
    if not questions:
        raise ValueError("there are no questions to score")
    exact, overlap = [], []
    for question in questions:
        predicted = predictions.get(question.id)
        exact.append(predicted is not None and _is_exact(question, predicted))
        overlap.append(0.0 if predicted is None else _f1(question, predicted))
    metrics = {"exact_match": float(np.mean(exact)), "f1": float(np.mean(overlap))}
    has_answer = np.array([bool(question.answers) for question in questions])
    if not has_answer.all():
        for name, are in (("f1_with_answer", has_answer), ("f1_without_answer", ~has_answer)):
            metrics |= {name: float(np.mean(overlap, where=are))} if are.any() else {}
    return metrics


def best_null_threshold(questions: Sequence[Question], answers: Sequence[Answer]) -> float:
    """Return the threshold of "no answer" with the highest F1, in the middle of its range.

    A question is answered if the score of "no answer" exceeds that of its answer by at most the
    threshold. Of equally good ranges the lowest is used.

    Args:
      questions: Questions, of which some have no answers.
      answers: The best answer to each, with the score of "no answer".
    """
    _check_lengths(questions, answers)
    margins = np.array([answer.null_score - answer.score for answer in answers])
    gains = [
        _f1(question, answer.text) - (not question.answers)
        for question, answer in zip(questions, answers, strict=True)
    ]
    order = np.argsort(margins, kind="stable")
    edges = np.concatenate([[margins.min() - 2], margins[order], [margins.max() + 2]])
    totals = np.concatenate([[0.0], np.cumsum(np.array(gains)[order])])
    totals[edges[:-1] == edges[1:]] = -np.inf  # between equal margins there is no threshold
    best = int(totals.argmax())
    return float((edges[best] + edges[best + 1]) / 2)


def _is_exact(question: Question, predicted: str) -> bool:
    if not question.answers:
        return not predicted
    return _words(predicted) in [_words(answer) for answer, _ in question.answers]


def _f1(question: Question, predicted: str) -> float:
    if not question.answers:
        return float(not predicted)
    return max(_overlap(_words(answer), _words(predicted)) for answer, _ in question.answers)


def collapsed(predictions: Sequence) -> bool:
    """Return whether all predictions are equal, as after failed fine-tuning."""
    return len(np.unique(predictions)) == 1


def _check_lengths(labels: Sequence, predictions: Sequence) -> None:
    if len(labels) != len(predictions) or not len(labels):
        raise ValueError(
            f"{len(predictions)} predictions cannot be scored against {len(labels)} labels"
        )


def _words(answer: str) -> list[str]:
    """Return the lower-cased words of an answer, without punctuation and articles."""
    bare = "".join(char for char in answer.lower() if char not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _overlap(answer: list[str], predicted: list[str]) -> float:
    """Return the F1 score of two bags of words."""
    common = (Counter(answer) & Counter(predicted)).total()
    return 2 * common / (len(answer) + len(predicted)) if common else 0.0
