"""Questions, and examples of prepared datasets; every problem with them is an error of one line."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from train.data.examples import tfds
from train.data.examples.squad import Question, read_questions
from train.data.examples.tables import TextExample
from train.data.examples.tagged import TaggedSentence
from train.finetuning.data import read_tfds
from train.finetuning.tasks.registry import TASKS


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("ZOO_DATA")
    if not folder:
        pytest.skip("ZOO_DATA names no folder with public data")
    return Path(folder)


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, content) -> Path:
        content = content if isinstance(content, str) else json.dumps(content)
        path = tmp_path / name
        path.write_bytes(
            gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode()
        )
        return path

    return write_file


def error_line(make, *arguments) -> str:
    """Return the error message, which must be one line."""
    with pytest.raises(ValueError, match=r"\w+") as error:
        make(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("file", "count"), [("dev-v1.1", 10570), ("train-v1.1-html.part1", 19626)])
def test_public_answers_occur_in_their_contexts(data, file, count):
    questions = read_questions(data / f"qa_squad_v11/{file}.json.gz")
    assert len(questions.examples) == count
    assert not questions.notes
    for question in questions.examples:
        assert all(
            question.context.startswith(answer, offset) for answer, offset in question.answers
        )


def squad(*rows, context="The cat sat. The cat ran.") -> dict:
    rows = [
        {
            "id": name,
            "question": "Who?",
            "answers": [{"text": a, "answer_start": n} for a, n in answers],
        }
        for name, answers in rows
    ]
    return {"data": [{"paragraphs": [{"context": context, "qas": rows}]}]}


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_answer_offsets_are_corrected_and_missing_answers_dropped(write, name):
    path = write(
        name,
        squad(
            ("1", [("cat", 17)]), ("2", [("cat", 15), ("dog", 0)]), ("3", [("dog", 0), ("", 0)]),
            ("4", []), ("5", [("sat", -17)]),
        ),
    )  # fmt: skip
    questions = read_questions(path)
    assert questions.examples[0] == Question(
        "1", "Who?", "The cat sat. The cat ran.", (("cat", 17),)
    )
    assert [question.answers for question in questions.examples[1:]] == [
        (("cat", 17),),
        (("sat", 8),),
    ]
    assert questions.notes == (
        f"2 questions of {path} have an answer offset that was corrected",
        f"2 of the 5 questions of {path} have no answer in their context and are dropped, "
        "for example 3",
    )


def test_questions_for_prediction_need_no_answers(write):
    content = squad(("1", []))
    assert read_questions(write("a.json", content)).examples[0].answers == ()
    del content["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    assert read_questions(write("a.json", content)).examples[0].answers == ()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "{path} is not JSON: Expecting"),
        ([], "{path} is not SQuAD"),
        ({"version": 1}, "{path} is not SQuAD"),
        ({"data": []}, "no questions in {path}"),
        (squad(("7", [("dog", 0)])),
         "no answer in {path} occurs in its context, for example that of question 7"),
        (squad(("7", []), ("7", [])), "{path} has two questions with the id 7"),
        (squad(("7", []), context=" "), "question 7 of {path} is empty, or its context"),
    ],
)  # fmt: skip
def test_a_bad_file_of_questions_is_an_error_of_one_line(write, content, line):
    path = write("a.json", content)
    assert error_line(read_questions, path).startswith(line.format(path=path))


def test_an_unanswerable_question_is_kept_without_answers(write):
    content = squad(("1", [("cat", 4)]), ("7", [("sat", 8)]), ("8", [("dog", 0)]))
    content["data"][0]["paragraphs"][0]["qas"][1]["is_impossible"] = True
    questions = read_questions(write("a.json", content))
    assert [(one.id, one.answers) for one in questions.examples] == [
        ("1", (("cat", 4),)),
        ("7", ()),
    ]
    assert "1 of the 3 questions" in questions.notes[0]
    assert questions.notes[0].endswith("are dropped, for example 8")


CAT = "The cat sat."
FLAT = (
    {"question": "Who?", "context": CAT, "answers": {"text": ["cat"], "answer_start": [4]}},
    {"question": "Who?", "context": CAT, "answers": [{"text": "cat", "answer_start": 4}]},
    {"question": "Who?", "context": CAT, "answers": ["cat"]},
    {"question": "Who?", "context": CAT, "answers": "cat", "is_impossible": False},
    {"question": "Why?", "context": CAT, "answers": {"text": [], "answer_start": []}},
    {"question": "Why?", "context": CAT, "answers": ["sat"], "is_impossible": True},
)


@pytest.mark.parametrize("name", ["a.jsonl", "lines.json", "list.json", "data.json", "a.jsonl.gz"])
def test_questions_may_be_one_row_each(write, name):
    content = {
        "list.json": list(FLAT),
        "data.json": {"version": "2.0", "data": list(FLAT)},
    }.get(name, "\n".join(map(json.dumps, FLAT)))
    questions = read_questions(write(name, content), "context").examples
    assert [one.id for one in questions] == list("123456")
    assert [one.answers for one in questions] == [(("cat", 4),)] * 4 + [(), ()]
    assert {one.group for one in questions} == {CAT}


def test_squads_questions_are_grouped_by_title_or_context(write):
    content = squad(("1", [("cat", 4)]))
    content["data"][0]["title"] = "Cats"
    path = write("a.json", content)
    assert read_questions(path, "title").examples[0].group == "Cats"
    assert read_questions(path, "context").examples[0].group.startswith("The cat")
    assert "--group author: " in error_line(read_questions, path, "author")


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"question": "Who?"}, "line 1 of {path} has no text in 'context'"),
        ({"question": "Who?", "context": "a", "answers": [7]}, "line 1 of {path} has invalid"),
        ({"question": "Who?", "context": "a", "answers": {"text": ["a"], "answer_start": []}},
         "line 1 of {path} has invalid answers"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_row_is_one_line(write, row, line):
    path = write("a.jsonl", json.dumps(row))
    assert error_line(read_questions, path).startswith(line.format(path=path))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> dict[str, str]:
    """Return the folders of three tiny datasets that were prepared without TensorFlow."""
    import tensorflow_datasets as library

    text, label = library.features.Text(), library.features.ClassLabel(names=["bad", "good"])
    sequence = library.features.Sequence
    content = {
        "pairs": (
            {"premise": text, "hypothesis": text, "label": label},
            [{"premise": "é", "hypothesis": "b", "label": n} for n in (1, 0, -1)],
        ),
        "tags": (
            {"tokens": sequence(text), "ner": sequence(label)},
            [{"tokens": ["é", "b"], "ner": [0, 1]}],
        ),
        "questions": (
            {"id": text, "question": text, "context": text,
             "answers": sequence({"text": text, "answer_start": np.int32})},
            [{"id": "1", "question": "Who?", "context": "The é sat.",
              "answers": {"text": ["é", "sat"], "answer_start": [4, 6]}}],
        ),
    }  # fmt: skip

    class Tiny(library.core.GeneratorBasedBuilder):
        """A few examples of each kind."""

        VERSION = library.core.Version("1.0.0")
        BUILDER_CONFIGS = [library.core.BuilderConfig(name=kind) for kind in content]

        def _info(self):
            features = library.features.FeaturesDict(content[self.builder_config.name][0])
            return library.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(content[self.builder_config.name][1])

    folder, folders = tmp_path_factory.mktemp("tfds"), {}
    for kind in content:
        builder = Tiny(config=kind, data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
        folders[kind] = str(builder.data_path)
    return folders


def test_prepared_datasets_hold_the_same_values_as_files(prepared):
    data = tfds.read_texts(prepared["pairs"], "train", {})
    assert sorted(data.examples) == [TextExample("é", "b", "bad"), TextExample("é", "b", "good")]
    assert data.notes[0].startswith("1 of the 3 rows")
    data = tfds.read_texts(prepared["pairs"], "train", {"text": "hypothesis"})
    assert set(data.examples) == {TextExample("b", None, "bad"), TextExample("b", None, "good")}
    data = tfds.read_tagged(prepared["tags"], "train", {"label": "ner"})
    assert data.examples == (TaggedSentence(("é", "b"), ("bad", "good")),)
    data = tfds.read_questions(prepared["questions"], "train")
    assert data.examples == (Question("1", "Who?", "The é sat.", (("é", 4), ("sat", 6))),)


def test_the_splits_of_a_prepared_dataset_are_examples_of_a_task(prepared):
    splits = read_tfds(TASKS["classification"], prepared["pairs"], {})
    assert {name: x.examples for name, x in splits.items()} == {
        "train": tfds.read_texts(prepared["pairs"], "train", {}).examples
    }
    examples = read_tfds(TASKS["text-to-text"], prepared["pairs"], {})["train"].examples
    assert {(x.text, x.pair) for x in examples} == {("é", None)}


def test_a_bad_prepared_dataset_is_an_error_of_one_line(prepared):
    name = prepared["pairs"]
    assert "Unknown split 'dev'" in error_line(tfds.read_texts, name, "dev", {})
    assert "has no text in 'question'" in error_line(tfds.read_questions, name, "train")
    assert "has no field words or tokens" in error_line(tfds.read_tagged, name, "train")
    assert "no column for the text" in error_line(tfds.read_texts, prepared["tags"], "train", {})


@pytest.mark.parametrize(
    ("name", "paired"),
    [
        ("glue/sst2", False),
        ("imdb_reviews", False),
        ("glue/mrpc", True),
        ("glue/stsb", True),
        ("snli", True),
    ],
)
def test_the_fields_of_known_datasets_are_found(name, paired, tmp_path):
    import tensorflow_datasets as library

    with library.testing.mock_data(num_examples=3):
        examples = tfds.read_texts(name, "train", {}, data_dir=tmp_path).examples
    assert len(examples) == 3
    assert all((example.pair is not None) == paired for example in examples)
