"""Questions whose answers stand in a text, from a file as SQuAD has it (Rajpurkar et al. 2016)."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import Examples
from train.data.sources import text


class Asked(NamedTuple):
    """A question to a text, and its answers: the words, and at which character they begin."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


def questions(path) -> Examples:
    """The `Asked` of a SQuAD 1.1 file, UTF-8 JSON, plain or `.gz`; see `placed` for the answers.

    Raises FileNotFoundError for a file that is not there; ValueError for what is no such file, and
    for SQuAD 2.0, of whose questions some have no answer.
    """
    path = Path(path)
    try:
        content = json.loads("".join(text.blocks(path)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    try:
        return placed(_flat(content), path)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a SQuAD file, data > paragraphs > context and qas: {error!r}"
        ) from error


def _flat(content: dict) -> Iterator[Asked]:
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                starts = [(one["text"], one["answer_start"]) for one in row.get("answers", ())]
                answerable(row)
                yield Asked(str(row["id"]), row["question"], paragraph["context"], tuple(starts))


def answerable(row: dict) -> None:
    """Raise ValueError for a question that SQuAD 2.0 marks as one without an answer."""
    if row.get("is_impossible"):
        raise ValueError(
            f"question {row['id']} has no answer, as in SQuAD 2.0, which cannot be learnt yet: "
            "leave out such questions"
        )


def placed(asked: Iterable[Asked], name) -> Examples:
    """The questions with every answer where it stands in the context, of whatever is called `name`.

    An answer that is not at its place is taken from the nearest place where it is. One that is
    nowhere is left out, and so is a question of which none is left. Where no question has an
    answer, they are all kept, to be answered.

    Raises ValueError where there are no questions or where no answer stands in its text, and for
    an id that two questions have or a question or a context that is empty.
    """
    asked = tuple(asked)
    seen = set()
    for one in asked:
        if one.id in seen:
            raise ValueError(f"{name} has two questions with the id {one.id}")
        if not one.question.strip() or not one.context.strip():
            raise ValueError(f"question {one.id} of {name} is empty, or its context")
        seen.add(one.id)
    if not asked:
        raise ValueError(f"no questions in {name}")
    if not any(one.answers for one in asked):
        return Examples(asked)
    found = [one._replace(answers=_found(one)) for one in asked]
    kept = tuple(one for one in found if one.answers)
    if not kept:
        raise ValueError(
            f"no question of {name} has an answer that stands in its text, such as {asked[0].id}"
        )
    moved = sum(
        bool(set(new.answers) - set(old.answers)) for old, new in zip(asked, found, strict=True)
    )
    remarks = []
    if moved:
        remarks.append(f"questions of {name} with an answer that stands at another place: {moved}")
    if len(kept) < len(asked):
        first = next(one.id for one in found if not one.answers)
        remarks.append(
            f"{len(asked) - len(kept)} of the {len(asked)} questions of {name} have no answer in "
            f"their text and are left out, such as {first}"
        )
    return Examples(kept, tuple(remarks))


def _found(asked: Asked) -> tuple[tuple[str, int], ...]:
    """The answers that stand in the context, each at its place or at the nearest one."""
    places = [(answer, _place(asked.context, answer, start)) for answer, start in asked.answers]
    return tuple((answer, place) for answer, place in places if place is not None)


def _place(context: str, answer: str, start: int) -> int | None:
    if not answer.strip():
        return None
    if start >= 0 and context.startswith(answer, start):
        return start
    places = [match.start() for match in re.finditer(f"(?={re.escape(answer)})", context)]
    return min(places, key=lambda place: abs(place - start), default=None)
