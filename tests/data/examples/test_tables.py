"""Examples of tasks are read from files; every problem with them is an error of one line."""

import gzip
import json
import os
from pathlib import Path

import pytest

from train.data.examples.tables import TextExample, parse_columns, read_texts
from train.data.examples.tagged import TaggedSentence, read_tagged

SINGLE, PAIR = False, True  # whether the examples are pairs
CONLL = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter NNP B-PER\n"
CONLLU = "# text = can't\n1-2\tcan't\t_\t_\n1\tca\tcan\tAUX\n2\tn't\tnot\tPART\n2.1\tx\tx\tX\n"


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


@pytest.mark.parametrize(
    ("file", "paired", "columns", "count", "labels"),
    [
        ("cls_sst2/train.tsv", SINGLE, None, 6920, 2),
        ("cls_sst2/dev.tsv", SINGLE, None, 872, 2),
        ("cls_subj/subj.tsv.gz", SINGLE, None, 10000, 2),
        ("cls_trec/train.tsv", SINGLE, {"label": "coarse"}, 5452, 6),
        ("cls_cola/in_domain_train.tsv", SINGLE, {"text": "4", "label": "2"}, 8551, 2),
        ("cls_names_char/names.tsv", SINGLE, {"text": "1", "label": "2"}, 20050, 18),
        ("pair_mrpc/msr_paraphrase_train.txt", PAIR, None, 4076, 2),
        ("pair_sick/SICK_trial.tsv", PAIR, {"label": "entailment_judgment"}, 500, 3),
        ("pair_snli_part/snli_dev_part.jsonl.gz", PAIR, None, 1289 - 16, 3),
        ("wsd_wic/train.jsonl.gz", PAIR, None, 5428, 2),
    ],
)
def test_public_texts_are_read_completely(data, file, paired, columns, count, labels):
    examples = read_texts(data / file, columns).examples
    assert len(examples) == count
    assert len({example.label for example in examples}) == labels
    assert all((example.pair is not None) == paired for example in examples)


def test_public_labels_stay_strings_and_quotes_stay(data):
    scored = read_texts(data / "pair_stsb/sts-dev.tsv").examples
    assert len(scored) == 1500
    assert scored[1].label == "4.750"
    assert (
        'called "the witness", of'
        in read_texts(data / "pair_mrpc/msr_paraphrase_train.txt").examples[0].text
    )
    assert len(read_texts(data / "pair_stsb/sts-train.tsv").examples) == 5749


@pytest.mark.parametrize(
    ("file", "sentences", "words", "labels"),
    [
        ("tag_ud_ewt/en_ewt-ud-dev.conllu.gz", 2001, 25147, 17),
        ("tag_wnut17/train.conll", 3394, 62730, 13),
        ("tag_wnut17/dev.conll", 1009, 15733, 13),
    ],
)
def test_public_tags_are_read_completely(data, file, sentences, words, labels):
    sentences_read = read_tagged(data / file).examples
    assert len(sentences_read) == sentences
    assert sum(len(sentence.words) for sentence in sentences_read) == words
    assert len({label for sentence in sentences_read for label in sentence.labels}) == labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", 'Label\tid\tSentence1\tSentence2\r\n1\t7\tsaid "a"\tb, c\r\n0\t8\td\te\r\n\r\n'),
        ("a.txt", 'said "a"\tb, c\t1\nd\te\t0'),
        ("a.csv", 'hypothesis,premise,stars\n"b, c","said ""a""",1\ne,d,0\n'),
        (
            "a.jsonl",
            '{"text": "said \\"a\\"", "pair": "b, c", "class": 1, "x": []}\n'
            '{"text": "d", "pair": "e", "class": 0}\n',
        ),
        (
            "a.json",
            '{"#1 String":"said \\"a\\"","#2 String":"b, c","score":"1"}\n'
            '{"#1 String":"d","#2 String":"e","score":" 0"}',
        ),
    ],
)
def test_every_format_of_the_same_texts_gives_equal_examples(write, name, content, suffix):
    columns = {"text": "1", "pair": "2", "label": "3"} if name == "a.txt" else None
    expected = TextExample('said "a"', "b, c", "1"), TextExample("d", "e", "0")
    path = write(name + suffix, content)
    assert read_texts(path, columns) == (expected, ())


def test_a_quoted_field_of_a_csv_may_contain_a_line_break(write):
    path = write("a.csv", 'text,label\n"a\nb",x\nc\n')
    assert error_line(read_texts, path).startswith(f"line 4 of {path} has 1 columns")
    assert read_texts(write("a.csv", 'text,label\n"a\nb",x\n\n')).examples[0].text == "a\nb"


def test_a_pair_is_read_if_there_is_a_column_for_it(write):
    path = write("a.tsv", "premise\thypothesis\tother\tlabel\na\tb\tc\tx\n")
    example = lambda **columns: read_texts(path, columns).examples[0]
    assert example() == TextExample("a", "b", "x")
    assert example(label="other") == TextExample("a", "b", "c")
    assert example(pair="other") == TextExample("a", "c", "x")
    assert example(text="other") == TextExample("c", None, "x")
    assert example(text="other", pair="premise") == TextExample("c", "a", "x")
    path = write("b.tsv", "text\tlabel\na\tx\n")
    assert "no column for the pair" in error_line(read_texts, path, {"pair": "hypothesis"})


def test_columns_are_named_by_role():
    assert parse_columns(["text=1", "label=a=b"]) == {"text": "1", "label": "a=b"}
    for wrong in ("words=1", "text", "text="):
        assert "use ROLE=COLUMN" in error_line(parse_columns, [wrong])


def test_rows_without_a_label_are_dropped_and_counted(write):
    path = write("a.jsonl", "".join(f'{{"text": "a", "label": {x}}}\n' for x in ('"-"', "null", 1)))
    texts = read_texts(path)
    assert texts.examples == (TextExample("a", None, "1"),)
    assert texts.notes == (f"2 of the 3 rows of {path} have no label and are dropped",)
    path = write("a.tsv", "text\tlabel\na\t\nb\t-\n")
    assert error_line(read_texts, path) == f"none of the 2 rows of {path} has a label"


@pytest.mark.parametrize(
    ("name", "content", "columns", "line"),
    [
        ("a.tsv", "", None, "no rows in {path}"),
        ("a.csv", "", None, "no rows in {path}"),
        ("a.jsonl", "", None, "no rows in {path}"),
        ("a.tsv", "text\tlabel\n", None, "no rows in {path}"),
        ("a.tsv", "text\tlabel\na\tx\ty\n", None,
         "line 2 of {path} has 3 columns, but the first row has 2"),
        ("a.tsv", "text\tlabel\na\tx\n\nb\ty\n", None,
         "line 3 of {path} has 1 columns, but the first row has 2"),
        ("a.tsv", "text\tlabel\ttext\na\tx\tb\n", None,
         "line 1 of {path} names the column 'text' twice: rename one"),
        ("a.tsv", "text\tlabel\na\tnan\n", None,
         "line 2 of {path} has the label 'nan', a missing value: remove the row, or leave its "
         "label empty"),
        ("a.jsonl", '{"text": "a", "label": NaN}', None,
         "line 1 of {path} has the label 'NaN', a missing value: remove the row, or leave its "
         "label empty"),
        ("a.tsv", "text\tlabel\n \tx\n", None,
         "line 2 of {path} has no text in 'text': remove the row"),
        ("a.csv", 'text,label\na,"x\n', None,
         "line 2 of {path} is not CSV: unexpected end of data"),
        ("a.jsonl", '{"text": "a", "label": 1}\n[]\n', None,
         "line 2 of {path} is not a JSON object: write one per line"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"label": 1}\n', None,
         "line 2 of {path} has no field 'text', but the first row has it"),
        ("a.jsonl", '{"text": 5, "label": 1}\n', None,
         "line 1 of {path} has no text in 'text': remove the row"),
        ("a.tsv", "coarse\tquestion\nDESC\tWhat?\n", None,
         "{path} has no column for the label: choose from coarse ('DESC'), question ('What?') with "
         "--columns text=NAME label=NAME"),
        ("a.tsv", "text\tscore\tstars\na\t1\t2\n", None,
         "{path} has multiple columns for the label: choose from text ('a'), score ('1'), "
         "stars ('2') with --columns text=NAME label=NAME"),
        ("a.tsv", "a\tx\n", {"text": "1", "label": "3"},
         "{path} has no column for the label: choose from 1 ('a'), 2 ('x') with "
         "--columns text=NAME label=NAME"),
    ],
)  # fmt: skip
def test_a_bad_file_of_texts_is_an_error_of_one_line(write, name, content, columns, line):
    path = write(name, content)
    assert error_line(read_texts, path, columns) == line.format(path=path)


def test_files_that_cannot_be_read_are_named(write, tmp_path):
    for read in (read_texts, read_tagged):
        with pytest.raises(FileNotFoundError, match="no such text file"):
            read(tmp_path / "none.tsv")
        path = write("latin.conll", "")
        path.write_bytes(b"\xe9\n")
        assert "is not UTF-8" in error_line(read, path)


def test_invalid_rows_can_be_skipped_and_are_counted(write):
    path, skipped = write("a.tsv", "text\tlabel\na\tx\n\nb\ty\tz\n \tx\nc\ty\n"), []
    assert [example.text for example in read_texts(path, skipped=skipped).examples] == ["a", "c"]
    assert skipped == [
        f"line 3 of {path} has 1 columns, but the first row has 2",
        f"line 4 of {path} has 3 columns, but the first row has 2",
        f"line 5 of {path} has no text in 'text': remove the row",
    ]
    path, skipped = write("a.conll", "a O\n\nb\n\nc O\n"), []
    assert len(read_tagged(path, skipped=skipped).examples) == 2
    assert skipped == [f"line 3 of {path} has 1 columns, but the first word has 2"]


def test_a_lone_carriage_return_ends_no_line(write):
    path = write("a.tsv", "text\tlabel\na\rb\tx\r\nc\ty\n")
    assert [example.text for example in read_texts(path).examples] == ["a\rb", "c"]
    path = write("b.tsv", "text\tlabel\ra\tx\r")
    assert [example.text for example in read_texts(path).examples] == ["a"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_tags_are_read_from_columns(write, suffix):
    path = write(f"a.conll{suffix}", CONLL)
    assert read_tagged(path) == (
        (TaggedSentence(("EU", "rejects"), ("B-ORG", "O")), TaggedSentence(("Peter",), ("B-PER",))),
        (),
    )
    assert read_tagged(path, {"label": "2"}).examples[0].labels == ("NNP", "VBZ")
    path = write(f"a.conllu{suffix}", CONLLU)
    assert read_tagged(path).examples == (TaggedSentence(("ca", "n't"), ("AUX", "PART")),)
    assert read_tagged(path, {"label": "3"}).examples == (
        TaggedSentence(("ca", "n't"), ("can", "not")),
    )


GERMEVAL = (
    "#\thttp://example.org/a [2026-01-01]\n1\tAnn\tB-PER\tO\n2\t#\tO\tO\n\n"
    "#\thttp://example.org/b\n1\tBob\tB-PER\tO\n"
)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("", {"text": "2", "label": "3"}),
        ("n\tword\tner\tnested\n", {"text": "word", "label": "ner"}),
    ],
)
def test_words_and_tags_are_in_columns_by_number_or_name(write, head, columns):
    path = write("a.tsv", head + GERMEVAL)
    assert read_tagged(path, columns) == (
        (TaggedSentence(("Ann", "#"), ("B-PER", "O")), TaggedSentence(("Bob",), ("B-PER",))),
        (f"2 lines of {path} that begin with # are comments and are left out",),
    )


def test_a_word_may_begin_with_the_sign_of_a_comment(write):
    path = write("a.txt", "# sent = 1\n#zoo O\n# O\n\n# O\nopens O\n")
    words = [example.words for example in read_tagged(path).examples]
    assert words == [("#zoo", "#"), ("#", "opens")]


@pytest.mark.parametrize("blank", ["", "\n"])
def test_a_document_ends_a_sentence_with_and_without_a_blank_line(write, blank):
    start = f"-DOCSTART- -X- O{blank}\n"
    path = write("a.txt", f"{start}Ann N B-PER\n{start}Bob N B-PER\n")
    assert [example.words for example in read_tagged(path).examples] == [("Ann",), ("Bob",)]


def test_columns_are_split_at_tabs_and_spaces_only(write):
    for separator in (" ", "  ", "\t"):
        path = write("a.txt", f"10\xa0000{separator}O\n\u3000{separator}O\n")
        assert read_tagged(path).examples[0].words == ("10\xa0000", "\u3000")


def test_labels_without_a_scheme_are_noted(write):
    (note,) = read_tagged(write("a.txt", "Ann PER\n. O\n")).notes
    assert note.startswith("the labels mark no spans, as B-LOC, I-LOC and O do")
    assert not read_tagged(write("b.txt", "Ann U-PER\n. O\n")).notes


def test_a_word_may_be_a_space_if_tabs_separate_the_columns(write):
    assert read_tagged(write("a.tsv", "\xa0\tO\n")).examples == (TaggedSentence(("\xa0",), ("O",)),)


@pytest.mark.parametrize("fields", [("words", "labels"), ("tokens", "ner_tags"), ("words", "tags")])
def test_tags_are_read_from_lists(write, fields):
    row = dict(zip(fields, (["EU", "rejects"], [3, "O"]), strict=True))
    path = write("a.jsonl", row | {"pos": ["X", "Y"]})
    assert read_tagged(path).examples == (TaggedSentence(("EU", "rejects"), ("3", "O")),)
    assert read_tagged(path, {"label": "pos"}).examples[0].labels == ("X", "Y")


def test_words_without_tags_have_none(write):
    expected = (TaggedSentence(("a", "b"), None), TaggedSentence(("c",), None))
    assert read_tagged(write("a.txt", "a\nb\n\nc\n")).examples == expected
    path = write("a.jsonl", '{"words": ["a", "b"]}\n{"words": ["c"]}\n')
    assert read_tagged(path).examples == expected


@pytest.mark.parametrize(
    ("name", "content", "column", "line"),
    [
        ("a.conll", "\n", None, "no sentences in {path}"),
        ("a.jsonl", "", None, "no sentences in {path}"),
        ("a.conll", "a O\nb\n", None, "line 2 of {path} has 1 columns, but the first word has 2"),
        ("a.conll", "a\tO\nb\t\n", None, "line 2 of {path} has no word or no label"),
        ("a.conll", "a O\n", "3", "{path} has 2 columns: there is no column 3"),
        ("a.conllu", "1\ta\n", None, "{path} has 2 columns: there is no column 4"),
        ("a.conll", "a O\n", "tag", 
         "{path} has no column 'tag': give a number from 1, or a name of its first line, a O"),
        ("a.conll", "1\ta\tO\n2\tb\tO\n", None,
         "the first column of {path} numbers the words: name that of the words, such as --columns "
         "text=2"),
        ("a.jsonl", '{"words": ["a", "b"], "tags": ["O"]}', None,
         "line 1 of {path} has 1 labels for 2 words: the numbers must agree"),
        ("a.jsonl", '{"words": "a b", "tags": ["O"]}', None,
         "line 1 of {path} has no list in words or in tags"),
        ("a.jsonl", '{"words": ["a"], "tags": ["O"]}\n{"words": ["a"]}', None,
         "line 2 of {path} has no list in words or in tags"),
        ("a.jsonl", '{"x": ["a"]}', None, "{path} has no field words or tokens: its fields are x"),
        ("a.jsonl", '{"words": ["a"]}', "y", "{path} has no field y: its fields are words"),
    ],
)  # fmt: skip
def test_a_bad_file_of_tags_is_an_error_of_one_line(write, name, content, column, line):
    path = write(name, content)
    columns = {} if column is None else {"label": column}
    assert error_line(read_tagged, path, columns) == line.format(path=path)
