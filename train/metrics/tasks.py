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

BIO = re.compile(r"O|[BI]-.+")


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
    """Return the accuracy per word, and for BIO labels also precision, recall and F1 of entities.

    An entity is correct if its words and its type are correct, as in CoNLL 2003.
    """
    from seqeval import metrics

    _check_lengths(labels, predictions)
    for pair in zip(labels, predictions, strict=True):
        _check_lengths(*pair)
    sides = [list(itertools.chain.from_iterable(side)) for side in (labels, predictions)]
    accuracy = {"accuracy": float(np.mean([a == b for a, b in zip(*sides, strict=True)]))}
    if not all(map(BIO.fullmatch, {*sides[0], *sides[1]})):
        return accuracy
    lists = [[list(sentence) for sentence in side] for side in (labels, predictions)]
    score = lambda name: float(getattr(metrics, f"{name}_score")(*lists, zero_division=0))
    return accuracy | {name: score(name) for name in ("precision", "recall", "f1")}


def question_answering(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> dict[str, float]:
    """Return the fraction of exact matches and the mean word F1, each against the best answer.

    Args:
      questions: Questions with their answers.
      predictions: The predicted text by question id; a missing prediction counts as wrong.
    """
    if not questions:
        raise ValueError("there are no questions to score")
    if unanswered := [question.id for question in questions if not question.answers]:
        raise ValueError(f"question {unanswered[0]} has no answer to score a prediction against")
    exact, overlap = [], []
    for question in questions:
        predicted = _words(predictions.get(question.id, ""))
        answers = [_words(answer) for answer, _ in question.answers]
        exact.append(question.id in predictions and predicted in answers)
        overlap.append(max(_overlap(words, predicted) for words in answers))
    return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(overlap))}


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
