"""Metrics of word vectors: accuracy on analogies, correlation with human similarity scores.

Both are defined as in the C program of word2vec and in gensim: words are compared without case,
only the most frequent words count, and lines with other words are left out.

N questions  V words  D width
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.metrics.tasks import regression
from zoo import untrusted
from zoo.inference.neighbors import WordIndex
from zoo.inference.word_vectors import composes, unit_vectors

MOST_FREQUENT = 300_000
SYNTACTIC = "gram"  # the names of syntactic sections begin with it
CHUNK = 1 << 25  # scores that are computed at a time


class Accuracy(NamedTuple):
    """The number of right answers, of questions, and of questions left out for unknown words."""

    correct: int
    questions: int
    skipped: int

    @property
    def fraction(self) -> float:
        """The fraction of right answers, from 0 to 1; 0 without questions."""
        return self.correct / max(self.questions, 1)


class Similarity(NamedTuple):
    """The correlations with human scores, the number of pairs, and of pairs left out."""

    spearman: float
    pearson: float
    pairs: int
    skipped: int


@dataclass(frozen=True)
class _Vocabulary:
    """The rows of the most frequent words by their upper case, of which the first one counts.

    `same_V` has, for each word, the row that counts for it.
    """

    rows: Mapping[str, int]
    same_V: np.ndarray
    lower_case: bool

    @classmethod
    def of(cls, index: WordIndex, most_frequent: int) -> "_Vocabulary":
        if most_frequent < 1:
            raise ValueError(f"the number of words must be at least 1, not {most_frequent}")
        rows: dict[str, int] = {}
        same = [
            rows.setdefault(word.upper(), row)
            for row, word in enumerate(index.words[:most_frequent])
        ]
        return cls(rows, np.array(same), all(word == word.lower() for word in index.words))


def has_sections(file: str | Path) -> bool:
    """Return whether a file has analogies, in sections, rather than pairs of words."""
    untrusted.check_file(file)  # no pipe, as it is read again
    return any(fields[0].startswith(":") for _, fields in _lines(file, None))


def analogies(
    index: WordIndex, file: str | Path, most_frequent: int = MOST_FREQUENT
) -> dict[str, Accuracy]:
    """Return how many analogies are solved, in each section of a file and in total.

    An answer is right if the expected word is the nearest to b - a + c, the sum of vectors of
    length 1, of all words but a, b and c (Mikolov et al. 2013, https://arxiv.org/abs/1301.3781,
    section 4.1).

    Args:
      index: The vectors, the result of `zoo.word_index`.
      file: Lines of four words, a b c and the expected one, in sections that begin with a line
        ": name", as questions-words.txt.
      most_frequent: How many of the most frequent words are expected and predicted.

    Returns:
      The accuracies by section, then "semantic", "syntactic" (sections whose names begin with
      "gram") and "total".

    Raises:
      ValueError: If a line has other than four words, or there are no questions.
    """
    vocabulary = _Vocabulary.of(index, most_frequent)
    sections: dict[str, list[list[int]]] = {}
    name = ""
    for number, fields in _lines(file, None):
        if fields[0].startswith(":"):
            name = " ".join(fields).lstrip(": ")
        elif len(fields) != 4:
            raise ValueError(f"{file}, line {number}: expected four words, got {len(fields)}")
        else:
            rows = [vocabulary.rows.get(word.upper(), -1) for word in fields]
            sections.setdefault(name, []).append(rows)
    if not sections:
        raise ValueError(f"{file} has no analogies: expected lines of four words")
    result = {}
    for name, questions in sections.items():
        rows_N4 = np.array(questions)
        known_N4 = rows_N4[(rows_N4 >= 0).all(1)]
        correct = int((_solve(index, vocabulary, known_N4[:, :3]) == known_N4[:, 3]).sum())
        result[name] = Accuracy(correct, len(known_N4), len(rows_N4) - len(known_N4))
    syntactic = {name: x for name, x in result.items() if name.startswith(SYNTACTIC)}
    semantic = {name: x for name, x in result.items() if name not in syntactic}
    groups = {"semantic": semantic, "syntactic": syntactic, "total": result}
    return result | {name: _sum(group) for name, group in groups.items()}


def similarity(
    index: WordIndex, file: str | Path, most_frequent: int = MOST_FREQUENT
) -> Similarity:
    """Return the correlations of the cosines of pairs of words with scores of humans.

    fastText composes the vectors of unknown words, so it leaves no pair out.

    Args:
      index: The vectors, the result of `zoo.word_index`.
      file: Lines of two words and a score, with tabs between; "#" begins a comment.
      most_frequent: How many of the most frequent words are known.

    Raises:
      ValueError: If a line is anything else, or fewer than two pairs are known.
    """
    vocabulary = _Vocabulary.of(index, most_frequent)
    scores, cosines, skipped = [], [], 0
    for number, fields in _lines(file, "\t"):
        if fields[0].startswith("#"):
            continue
        try:
            words, score = fields[:2], float(fields[2])
        except (IndexError, ValueError):
            raise ValueError(
                f"{file}, line {number}: expected two words and a score with tabs between, got "
                f"{' '.join(fields)!r:.60}"
            ) from None
        one_D, other_D = (_vector(index, vocabulary, word) for word in words)
        if one_D is None or other_D is None:
            skipped += 1
        else:
            scores.append(score)
            cosines.append(float(one_D @ other_D))
    if len(scores) < 2:
        raise ValueError(
            f"{file}: the vocabulary has both words of {len(scores)} of {len(scores) + skipped} "
            "pairs, but a correlation needs at least 2"
        )
    correlations = regression(scores, cosines)
    return Similarity(correlations["spearman"], correlations["pearson"], len(scores), skipped)


def _solve(index: WordIndex, vocabulary: _Vocabulary, rows_N3: np.ndarray) -> np.ndarray:
    """Return the row of the answer to each question, the first of those that differ in case."""
    same_V = vocabulary.same_V
    units_VD = index.units_ND[: len(same_V)]
    answers_N = np.empty(len(rows_N3), np.int64)
    size = max(CHUNK // len(same_V), 1)
    for start in range(0, len(rows_N3), size):
        part_N3 = rows_N3[start : start + size]
        a_ND, b_ND, c_ND = (units_VD[rows_N] for rows_N in part_N3.T)
        scores_NV = (b_ND - a_ND + c_ND) @ units_VD.T
        pending = np.arange(len(part_N3))
        scores_NV[pending[:, None], part_N3] = -np.inf
        # Words that differ from a, b or c in case only are excluded as they come up.
        while len(pending):
            best_N = scores_NV[pending].argmax(1)
            answers_N[start + pending] = same_V[best_N]
            excluded = (same_V[best_N][:, None] == part_N3[pending]).any(1)
            excluded &= scores_NV[pending, best_N] > -np.inf  # there are no other words
            scores_NV[pending[excluded], best_N[excluded]] = -np.inf
            pending = pending[excluded]
    return answers_N


def _vector(index: WordIndex, vocabulary: _Vocabulary, word: str) -> np.ndarray | None:
    row = vocabulary.rows.get(word.upper())
    if row is not None:
        return index.units_ND[row]
    if not composes(index.loaded):
        return None
    return unit_vectors(index.loaded, word.lower() if vocabulary.lower_case else word)[0]


def _sum(group: Mapping[str, Accuracy]) -> Accuracy:
    return Accuracy(*(sum(column) for column in zip((0, 0, 0), *group.values(), strict=True)))


def _lines(file: str | Path, separator: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is not blank."""
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, [field.strip() for field in line.strip().split(separator)]
