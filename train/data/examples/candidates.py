"""Candidates of a translator or a recognizer, which a language model ranks anew."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import lines


class Candidate(NamedTuple):
    """A text, the source that it belongs to, and the score of the system that proposed it."""

    source: str
    text: str
    score: float = 0.0


def read_candidates(path: Path) -> list[list[Candidate]]:
    """Return the candidates of every source.

    A file has one text per line and empty lines between sources; or lines "source ||| text |||
    features ||| score", as Moses writes them, where the features are not used.

    Raises:
      ValueError: If a line has neither form, or there are no candidates.
    """
    candidates, source = [], 0
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            source += 1
        elif "|||" in line:
            candidates.append(_moses(line, f"line {number} of {path}"))
        else:
            candidates.append(Candidate(str(source), line.strip()))
    if not candidates:
        raise ValueError(f"{path} has no candidates: write one per line")
    return [list(group) for _, group in groupby(candidates, lambda candidate: candidate.source)]


def _moses(line: str, location: str) -> Candidate:
    parts = [part.strip() for part in line.split("|||")]
    try:
        source, text, _, score, *_ = parts
        return Candidate(source, text, float(score))
    except ValueError:
        raise ValueError(
            f"{location} is not of the form: source ||| text ||| features ||| score"
        ) from None


def rank(
    candidates: Sequence[Candidate], log_probabilities: Sequence[float], weight: float
) -> list[tuple[float, Candidate]]:
    """Return the candidates of a source, best first, each with its score.

    Args:
      candidates: The candidates.
      log_probabilities: Those of their texts, by a language model.
      weight: Their factor in the score, which is added to that of the candidate.
    """
    scored = [
        (candidate.score + weight * log_probability, candidate)
        for candidate, log_probability in zip(candidates, log_probabilities, strict=True)
    ]
    return sorted(scored, key=lambda pair: -pair[0])
