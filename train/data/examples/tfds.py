"""Examples of a task from TensorFlow Datasets, read without TensorFlow."""

from train.data.examples import squad, tables, tagged
from train.data.examples.squad import Asked
from train.data.examples.tables import Examples
from train.data.sources import tfds

ROLES = {"texts": ("text", "label"), "pairs": ("text", "pair", "label")}
KINDS = (*ROLES, "tags", "questions")


def from_tfds(
    name: str, split: str, kind: str, columns: dict[str, str] | None = None, data_dir=None
) -> Examples:
    """The `Text`s, `Tagged` sentences or `Asked` of a split, such as those of "glue/sst2".

    Classes go by their names. `columns` maps a role to a feature, as in `texts`; of tags it is the
    role "label".

    Raises ValueError for a kind that is none of `KINDS`, and all that `tfds.rows` and the functions
    for files raise.
    """
    columns = columns or {}
    place = f"{name} ({split})"
    if kind not in KINDS:
        raise ValueError(f"examples are {', '.join(KINDS)}, not {kind}")
    found = tfds.rows(name, split, data_dir)
    if kind == "questions":
        return squad.placed(map(_asked, found), place)
    rows = ((f"example {number} of {place}", row) for number, row in enumerate(found))
    if kind == "tags":
        return tagged.of_rows(rows, place, columns.get("label"))
    return tables.of_rows(rows, place, ROLES[kind], columns)


def _asked(row: dict) -> Asked:
    missing = [field for field in ("id", "question", "context", "answers") if field not in row]
    if missing:
        raise ValueError(f"a question has the features {', '.join(row)}, and no {missing[0]}")
    squad.answerable(row)
    answers = row["answers"]
    starts = zip(answers["text"], answers["answer_start"], strict=True)
    return Asked(row["id"], row["question"], row["context"], tuple(starts))
