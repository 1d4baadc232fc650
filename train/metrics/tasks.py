"""Measures what fine-tuning learns: classes, numbers, tags and answers. No figure is in percent.

F1 and Matthews are scikit-learn's, entities are those of seqeval, and answers are judged by the
rule that SQuAD 1.1 published (Rajpurkar et al. 2016, section 6.1), as papers report them.
"""

import itertools
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from train.data.examples.squad import Asked

BIO = re.compile(r"O|[BI]-.+")


def classes(labels, predictions, names: Sequence[str]) -> dict[str, float]:
    """Accuracy, F1 of the second of two classes, the mean F1 of those that occur, and Matthews.

    Args:
      labels, predictions: integers [N], which count the `names`.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    _alike(labels, predictions)
    f1 = lambda some: f1_score(labels, predictions, labels=some, average="macro", zero_division=0)
    one_class = collapsed(labels) and collapsed(predictions)  # of which scikit-learn would warn
    found = {
        "accuracy": np.mean(np.equal(labels, predictions)),
        **({"f1": f1([1])} if len(names) == 2 else {}),
        "macro_f1": f1(None),
        "matthews": 0.0 if one_class else matthews_corrcoef(labels, predictions),
    }
    return {name: float(value) for name, value in found.items()}


def similarity(gold, predicted) -> dict[str, float]:
    """The correlations of Pearson and, by ranks, of Spearman; 0 where either side is constant."""
    from scipy.stats import rankdata

    _alike(gold, predicted)
    sides = [np.asarray(side, np.float64) for side in (gold, predicted)]
    constant = any(map(collapsed, sides))
    correlation = lambda a, b: 0.0 if constant else float(np.corrcoef(a, b)[0, 1])
    return {"pearson": correlation(*sides), "spearman": correlation(*map(rankdata, sides))}


def tags(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Accuracy by word; where all labels are "B-x", "I-x" or "O", also those of whole entities.

    An entity counts where its words and its type are right, as CoNLL 2003 has it.
    """
    from seqeval import metrics

    _alike(gold, predicted)
    for pair in zip(gold, predicted, strict=True):
        _alike(*pair)
    sides = [list(itertools.chain.from_iterable(side)) for side in (gold, predicted)]
    found = {"accuracy": float(np.mean([a == b for a, b in zip(*sides, strict=True)]))}
    if not all(map(BIO.fullmatch, {*sides[0], *sides[1]})):
        return found
    lists = [[list(labels) for labels in side] for side in (gold, predicted)]
    score = lambda name: float(getattr(metrics, f"{name}_score")(*lists, zero_division=0))
    return found | {name: score(name) for name in ("precision", "recall", "f1")}


def answers(asked: Sequence[Asked], predictions: dict[str, str]) -> dict[str, float]:
    """Exact matches and F1 by words, each with the answer that fits best.

    Args:
      asked: questions with their answers.
      predictions: the id of a question -> a text; one that is not there counts as wrong.
    """
    if not asked:
        raise ValueError("there are no questions to score")
    if unanswered := [one.id for one in asked if not one.answers]:
        raise ValueError(f"question {unanswered[0]} has no answer to hold a prediction against")
    exact, overlap = [], []
    for one in asked:
        found = _words(predictions.get(one.id, ""))
        wanted = [_words(answer) for answer, _ in one.answers]
        known = one.id in predictions
        exact.append(known and found in wanted)
        overlap.append(max(_overlap(words, found) for words in wanted))
    return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(overlap))}


def collapsed(predictions) -> bool:
    """Whether all predictions are the same, as where fine-tuning has failed."""
    return len(np.unique(predictions)) == 1


def baseline(labels) -> float:
    """The share of the most frequent label, which is the accuracy of always saying it."""
    counts = Counter(labels)
    if not counts:
        raise ValueError("there are no labels to count")
    return max(counts.values()) / counts.total()


def _alike(gold, predicted) -> None:
    if len(gold) != len(predicted) or not len(gold):
        raise ValueError(f"{len(predicted)} predictions cannot be held against {len(gold)}")


def _words(answer: str) -> list[str]:
    """What counts of an answer: in lower case, without punctuation and articles."""
    bare = "".join(char for char in answer.lower() if char not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _overlap(wanted: list[str], found: list[str]) -> float:
    """F1 of two bags of words."""
    common = (Counter(wanted) & Counter(found)).total()
    return 2 * common / (len(wanted) + len(found)) if common else 0.0
