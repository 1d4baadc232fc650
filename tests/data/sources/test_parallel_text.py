"""Pairs of texts are read from files or memory; bad pairs are named in an error of one line."""

import gzip
import json
import re

import pytest

from train.data.sources import parallel_text

PAIRS = [("One day.", "Ein Tag."), (" two  ", "zwei"), ("3", "drei\x0b\x85\u2028!"), ("é", "日本")]


def write(path, content: str | bytes):
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def files(folder, source: str, target: str):
    return write(folder / "a.en", source), write(folder / "b.de", target)


def joined(pairs, end="\n") -> tuple[str, str]:
    return tuple(end.join(side) + end for side in zip(*pairs, strict=True))


def error_line(make, *args) -> str:
    """Return the error message, which must be one line."""
    with pytest.raises(ValueError, match=r"\w+") as error:
        make(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_pair_is_two_neighbouring_documents():
    source = parallel_text.strings(PAIRS)
    assert list(source.documents()) == [side for pair in PAIRS for side in pair]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("block", [3, 1 << 20])
def test_every_file_of_the_same_pairs_is_the_same_source(tmp_path, monkeypatch, end, suffix, block):
    monkeypatch.setattr("train.data.sources.text.BLOCK", block)
    sides = joined(PAIRS, end)
    rows = [{"id": i, "source": a, "target": b} for i, (a, b) in enumerate(PAIRS)]
    objects = "".join(json.dumps(row, ensure_ascii=bool(suffix)) + end for row in rows)
    columns = end.join("\t".join(pair) for pair in PAIRS)  # the last line has no end
    paths = [write(tmp_path / f"{i}.txt{suffix}", side) for i, side in enumerate(sides)]
    sources = [
        parallel_text.lines(*paths),
        parallel_text.table(write(tmp_path / f"a.jsonl{suffix}", objects)),
        parallel_text.table(write(tmp_path / f"a.tsv{suffix}", columns)),
    ]
    expected = parallel_text.strings(PAIRS)
    for source in sources:
        assert list(source.documents()) == list(expected.documents())
        assert source.fingerprint == expected.fingerprint


def test_only_line_ends_are_stripped(tmp_path):
    source = parallel_text.lines(*files(tmp_path, "\ufeff a \t\n", "\x1cb\x0c"))
    assert list(source.documents()) == [" a \t", "\x1cb\x0c"]


def test_the_fields_of_objects_can_be_named(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"de": "Tag", "en": "day", "fr": 1}\n')
    assert list(parallel_text.table(path, ("en", "de")).documents()) == ["day", "Tag"]


def test_pairs_can_be_read_again_and_are_read_lazily(tmp_path):
    paths = files(tmp_path, *joined(PAIRS))
    source = parallel_text.lines(*paths)
    first = source.documents()
    assert next(first) == PAIRS[0][0]
    assert list(source.documents()) == list(source.documents())
    write(paths[0], "other\n" * len(PAIRS))
    assert next(source.documents()) == "other"


def test_the_fingerprint_distinguishes_pairs():
    lists_of_pairs = [
        [("ab", "c")],
        [("a", "bc")],
        [("c", "ab")],
        [("ab", "d")],
        [("ab", "c"), ("d", "e")],
    ]
    lists_of_pairs += [[("ab", "d"), ("c", "e")]]
    assert len({parallel_text.strings(pairs).fingerprint for pairs in lists_of_pairs}) == len(
        lists_of_pairs
    )


# White space; control and format characters; a lone accent; the replacement character. Some
# tokenizer has no token for these, so that all later pairs of a corpus would be misaligned.
@pytest.mark.parametrize(
    "empty", ["", " \t\u3000", "\x00\x7f", "\u200b\xad", "\u0301", "\u00b4", "\ufffd"]
)
def test_an_empty_text_is_named(tmp_path, empty):
    message = error_line(parallel_text.lines, *files(tmp_path, "a\nb\n", f"a\n{empty}\n"))
    assert message.startswith("line 2 of ")
    assert "b.de is empty: remove both sides" in message
    message = error_line(parallel_text.strings, [("a", "b"), (empty, "c")])
    assert message.startswith("pairs[1][0] is empty")
    row = json.dumps({"source": "a", "target": empty})
    message = error_line(parallel_text.table, write(tmp_path / "c.jsonl", row))
    assert re.match(r"the target in line 1 of .*c.jsonl is empty", message)


def test_files_without_pairs_are_named(tmp_path):
    assert re.match(
        "no pairs in .*a.en and .*b.de", error_line(parallel_text.lines, *files(tmp_path, "", ""))
    )
    assert re.match(
        "no pairs in .*a.tsv", error_line(parallel_text.table, write(tmp_path / "a.tsv", ""))
    )
    assert error_line(parallel_text.strings, []) == "no pairs in an empty list"


def test_a_pair_in_memory_must_be_two_strings():
    for bad in [("a", "b", "c"), ("a",), ("a", None), "ab" * 99]:
        assert error_line(parallel_text.strings, [("a", "b"), bad]).startswith(
            "pairs[1] is not two strings"
        )


@pytest.mark.parametrize(("line", "count"), [("a", 1), ("a\tb\tc", 3), ("a\tb\t", 3), ("", 1)])
def test_a_line_without_two_columns_is_named(tmp_path, line, count):
    path = write(tmp_path / "a.tsv", f"a\tb\n{line}\nc\td\n")
    message = error_line(parallel_text.table, path)
    assert message.startswith(f"line 2 of {path} has {count} columns, not 2: separate the two")


@pytest.mark.parametrize("line", ["", "[1]", '"text"', "{", "null", "{'source': 1}"])
def test_a_line_that_is_not_an_object_is_named(tmp_path, line):
    path = write(tmp_path / "a.jsonl.gz", f'{{"source": "a", "target": "b"}}\n{line}\n')
    assert error_line(parallel_text.table, path).startswith(
        f"line 2 of {path} is not a JSON object"
    )


@pytest.mark.parametrize("row", [{"source": "a", "goal": "b"}, {"source": "a", "target": 1}, {}])
def test_an_object_without_a_text_in_a_field_is_named_with_its_fields(tmp_path, row):
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    message = error_line(parallel_text.table, path)
    assert message.startswith(f"line 1 of {path} has no text in the field '")
    assert all(repr(field) in message for field in row)


def test_a_text_that_cannot_be_encoded_as_utf8_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"source": "a\\ud800", "target": "b"}')
    assert error_line(parallel_text.table, path).startswith(
        f"the source in line 1 of {path} is not text"
    )


def test_a_file_of_another_kind_is_named(tmp_path):
    assert ".tsv or .jsonl" in error_line(parallel_text.table, tmp_path / "a.csv")
    assert ".tsv or .jsonl" in error_line(parallel_text.table, tmp_path / "a.tsv.zip")
    assert "are only for .jsonl" in error_line(parallel_text.table, tmp_path / "a.tsv", ("a", "b"))


def test_a_missing_or_broken_file_is_named(tmp_path):
    good = write(tmp_path / "good", "a\n" * 5)
    with pytest.raises(FileNotFoundError, match=r"no such text file: .*missing"):
        parallel_text.lines(good, tmp_path / "missing")
    bad = write(tmp_path / "bad.gz", b"a\nb\nc\nd\n\xff\n")
    assert f"{bad} is not UTF-8 at byte 8" in error_line(parallel_text.lines, good, bad)
    bad.write_bytes(bad.read_bytes()[:-12])
    assert f"{bad} is not a complete gzip file" in error_line(parallel_text.lines, good, bad)


def test_pairs_without_text_can_be_skipped_and_are_named(tmp_path):
    sides = tmp_path / "a", tmp_path / "b"
    for side, content in zip(sides, ("one\n\nthree\nfour", "eins\nzwei\n \nvier"), strict=True):
        side.write_text(content)
    skipped = []
    source = parallel_text.files(sides, skipped=skipped)
    assert list(source.pairs()) == [("one", "eins"), ("four", "vier")]
    assert skipped == [f"line 2 of {sides[0]} is empty", f"line 3 of {sides[1]} is empty"]
    table, skipped = tmp_path / "a.tsv", []
    table.write_text("one\teins\ntwo\nthree\tdrei\n")
    source = parallel_text.files([table], skipped=skipped)
    assert list(source.pairs()) == [("one", "eins"), ("three", "drei")]
    assert skipped == [f"line 2 of {table} has 1 columns, not 2: separate the two texts by one tab"]
    assert source.fingerprint == parallel_text.strings(source.pairs()).fingerprint


def test_a_lone_carriage_return_ends_no_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"a \rb\tc\r\nd\te\n")
    assert list(parallel_text.table(path).pairs()) == [("a \rb", "c"), ("d", "e")]
    path.write_bytes(b"a\tb\rc\td\r")
    assert list(parallel_text.table(path).pairs()) == [("a", "b"), ("c", "d")]


def test_files_of_unequal_length_are_named_with_their_lines(tmp_path):
    message = error_line(parallel_text.lines, *files(tmp_path, "x\n" * 100, "x\n" * 99))
    assert re.search(r"a.en has 100 lines, .*b.de has 99: both files must have the same", message)
    message = error_line(parallel_text.lines, *files(tmp_path, "", "a\nb\n"))
    assert re.search(r"a.en has 0 lines, .*b.de has 2: ", message)


def test_sides_without_common_letters_are_detected():
    english, russian = "attention aligns words", "внимание выравнивает слова"
    shares = lambda pairs: parallel_text.shares_letters(parallel_text.strings(pairs))
    assert not shares([(english, russian)] * 3)
    assert not shares([(english, russian)] * 199 + [(english, "GRU")])
    assert shares([(english, "Aufmerksamkeit")])
    assert shares([(english, "2026-11-23")])  # has no letters
    assert not shares([(english, russian)] * 1000 + [(english, english)] * 1000)
