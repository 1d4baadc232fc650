"""Extractive questions: SQuAD files (Rajpurkar et al. 2016, 2018), or one row per question."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from train.data.examples.tables import Examples, Row, group_field, objects, suffix, text_of
from train.data.sources import text
from zoo import untrusted

FORMS = "SQuAD (data > paragraphs > context and qas) or rows with question, context and answers"


class Question(NamedTuple):
    """A question about a text, and its answers with their character offsets.

    In a file with answers, a question without any is unanswerable.
    """

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    group: str = ""  # the value of the field that groups questions


def read_questions(path: str | Path, group: str | None = None) -> Examples:
    """Return the `Question`s of a file: UTF-8, plain or `.gz`.

    A `.jsonl` has one question per line, a `.json` too, or a list of questions, or the nesting of
    SQuAD 1.1 and 2.0. A question is an object with "question", "context", "answers" and optionally
    "id" and "is_impossible". Its answers are texts, objects with "text" and "answer_start", or one
    object with lists of both. Without nesting, no answers means that there is none, as does
    "is_impossible". The offsets of the answers are corrected by `locate`.

    Args:
      path: The file.
      group: The field that groups questions, such as "context" or the "title" of SQuAD.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If the file has another form, or as `locate`.
    """
    path = Path(path)
    untrusted.check_file(path)  # no pipe, as it may be read again
    if suffix(path) == ".jsonl":
        return from_rows(objects(path), str(path), group)
    content = "".join(text.blocks(path))
    try:
        nested = json.loads(content)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # one object per line
            return from_rows(objects(path), str(path), group)
        raise ValueError(f"{path} is not JSON: {error}") from error
    except (ValueError, RecursionError) as error:  # of numbers of many digits, and of depth
        raise ValueError(f"{path} is not JSON that can be read: {error}") from None
    rows = nested.get("data", nested) if isinstance(nested, dict) else nested
    if isinstance(rows, list) and rows and all(map(_is_row, rows)):
        numbered = ((f"question {number} of {path}", row) for number, row in enumerate(rows, 1))
        return from_rows(numbered, str(path), group)
    if _is_row(rows):
        return from_rows(objects(path), str(path), group)
    try:
        return _of_squad(nested, str(path), group)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not {FORMS}: {error!r}") from error


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and "question" in row


def from_rows(rows: Iterable[Row], source: str, group: str | None = None) -> Examples:
    """Return the `Question`s of rows with one question each, as `read_questions` does."""
    questions, impossible = [], set()
    for number, (location, row) in enumerate(rows, 1):
        for field in ("question", "context"):
            if not isinstance(row.get(field), str):
                raise ValueError(f"{location} has no text in {field!r}: it must be {FORMS}")
        try:
            answers = _answers(row.get("answers"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{location} has invalid answers: use texts, or objects with text and answer_start"
            ) from error
        named = group_field(row, location, {} if group is None else {"group": group})
        of_group = [text_of(row[field]) for field in named.values()]
        identity = str(row.get("id", number))
        if row.get("is_impossible") or not answers:
            impossible.add(identity)
            answers = ()
        questions.append(Question(identity, row["question"], row["context"], answers, *of_group))
    return locate(questions, source, impossible)


def _answers(answers: Any) -> tuple[tuple[str, int], ...]:
    """Return the text and the offset of each answer; an offset is -1 if there is none."""
    if isinstance(answers, Mapping):
        starts = answers.get("answer_start", [-1] * len(answers["text"]))
        pairs = list(zip(answers["text"], starts, strict=True))
    else:
        as_pair = lambda x: (
            (x["text"], x.get("answer_start", -1)) if isinstance(x, dict) else (x, -1)
        )
        pairs = [as_pair(x) for x in ([answers] if isinstance(answers, str) else answers or ())]
    if not all(isinstance(answer, str) for answer, _ in pairs):
        raise TypeError("an answer is not a text")
    return tuple((answer, int(start)) for answer, start in pairs)


def _of_squad(content: dict, source: str, group: str | None) -> Examples:
    questions, impossible = [], set()
    for row in _flat(content):
        answers = _answers(row.get("answers"))
        if row.get("is_impossible"):
            impossible.add(str(row["id"]))
            answers = ()
        of_group = () if group is None else (_group(row, source, group),)
        identity = str(row["id"])
        questions.append(Question(identity, row["question"], row["context"], answers, *of_group))
    return locate(questions, source, impossible)


def _flat(content: dict) -> Iterator[dict]:
    """Yield the questions of a SQuAD file, with the title and the context of each."""
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                yield {"title": article.get("title"), "context": paragraph["context"], **row}


def _group(row: Mapping[str, Any], source: str, group: str) -> str:
    (field,) = group_field(row, source, {"group": group}).values()
    return text_of(row[field])


def locate(
    questions: Iterable[Question], source: str, impossible: Collection[str] = ()
) -> Examples:
    """Return the questions of a source with verified answer offsets.

    An answer that is not at its offset is moved to its nearest occurrence in the context. An answer
    that does not occur in the context is dropped, and so is a question without remaining answers,
    unless it is unanswerable. If no question has an answer at all, all questions are kept, for
    prediction.

    Args:
      questions: The questions.
      source: The name of their source.
      impossible: The ids of the unanswerable questions, which have no answers.

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
    kept = [bool(question.answers) or question.id in impossible for question in located]
    if not any(question.answers for question in located):
        first = next(question.id for question in questions if question.answers)
        raise ValueError(
            f"no answer in {source} occurs in its context, for example that of question {first}"
        )
    moved = sum(
        bool(set(new.answers) - set(old.answers))
        for old, new in zip(questions, located, strict=True)
    )
    notes = []
    if moved:
        notes.append(f"{moved} questions of {source} have an answer offset that was corrected")
    if not all(kept):
        notes.append(
            f"{kept.count(False)} of the {len(questions)} questions of {source} have "
            f"no answer in their context and are dropped, for example "
            f"{located[kept.index(False)].id}"
        )
    examples = (question for question, keep in zip(located, kept, strict=True) if keep)
    return Examples(tuple(examples), tuple(notes))


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
