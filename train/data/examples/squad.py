"""Extractive questions from a SQuAD file (Rajpurkar et al. 2016)."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import Examples
from train.data.sources import text


class Question(NamedTuple):
    """A question about a text, and its answers with their character offsets."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


def read_questions(path: str | Path) -> Examples:
    """Return the `Question`s of a SQuAD 1.1 file: UTF-8 JSON, plain or `.gz`.

    The offsets of the answers are corrected by `locate`.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If the file is not SQuAD 1.1. SQuAD 2.0 has questions without an answer.
    """
    path = Path(path)
    try:
        content = json.loads("".join(text.blocks(path)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    try:
        return locate(_flat(content), str(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a SQuAD file (data > paragraphs > context and qas): {error!r}"
        ) from error


def _flat(content: dict) -> Iterator[Question]:
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                answers = row.get("answers", ())
                starts = [(answer["text"], answer["answer_start"]) for answer in answers]
                check_answerable(row)
                identity, context = str(row["id"]), paragraph["context"]
                yield Question(identity, row["question"], context, tuple(starts))


def check_answerable(row: dict) -> None:
    """Raise ValueError for a question that SQuAD 2.0 marks as unanswerable."""
    if row.get("is_impossible"):
        raise ValueError(
            f"question {row['id']} has no answer; SQuAD 2.0 is not supported: "
            "remove the questions without an answer"
        )


def locate(questions: Iterable[Question], source: str) -> Examples:
    """Return the questions of a source with verified answer offsets.

    An answer that is not at its offset is moved to its nearest occurrence in the context. An answer
    that does not occur in the context is dropped, and so is a question without remaining answers.
    If no question has an answer at all, all questions are kept, for prediction.

    Raises:
      ValueError: If there are no questions, no answer occurs in its context, two questions have the
        same id, or a question or a context is empty.
    """
    questions = tuple(questions)
    ids = set()
    for question in questions:
        if question.id in ids:
            raise ValueError(f"{source} has two questions with the id {question.id}")
        if not question.question.strip() or not question.context.strip():
            raise ValueError(f"question {question.id} of {source} is empty, or its context")
        ids.add(question.id)
    if not questions:
        raise ValueError(f"no questions in {source}")
    if not any(question.answers for question in questions):
        return Examples(questions)
    located = [question._replace(answers=_locate(question)) for question in questions]
    answered = tuple(question for question in located if question.answers)
    if not answered:
        raise ValueError(
            f"no answer in {source} occurs in its context, for example that of question "
            f"{questions[0].id}"
        )
    moved = sum(
        bool(set(new.answers) - set(old.answers))
        for old, new in zip(questions, located, strict=True)
    )
    notes = []
    if moved:
        notes.append(f"{moved} questions of {source} have an answer offset that was corrected")
    if len(answered) < len(questions):
        first = next(question.id for question in located if not question.answers)
        notes.append(
            f"{len(questions) - len(answered)} of the {len(questions)} questions of {source} have "
            f"no answer in their context and are dropped, for example {first}"
        )
    return Examples(answered, tuple(notes))


def _locate(question: Question) -> tuple[tuple[str, int], ...]:
    """Return the answers that occur in the context, with corrected offsets."""
    offsets = [
        (answer, _nearest(question.context, answer, start)) for answer, start in question.answers
    ]
    return tuple((answer, offset) for answer, offset in offsets if offset is not None)


def _nearest(context: str, answer: str, start: int) -> int | None:
    if not answer.strip():
        return None
    if start >= 0 and context.startswith(answer, start):
        return start
    offsets = [match.start() for match in re.finditer(f"(?={re.escape(answer)})", context)]
    return min(offsets, key=lambda offset: abs(offset - start), default=None)
