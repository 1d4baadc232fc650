"""Pairs of texts come from files or memory; bad ones are named in one line; no pair is parted."""

import gzip
import json
import math
import random
import re

import numpy as np
import pytest

from tests.data.tiny_corpus import KINDS, documents, numbered, tokenizer
from train.data.corpus import corpus
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


def refused(make, *args) -> str:
    """The one line with which arguments are refused."""
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
    found = [
        parallel_text.lines(*paths),
        parallel_text.table(write(tmp_path / f"a.jsonl{suffix}", objects)),
        parallel_text.table(write(tmp_path / f"a.tsv{suffix}", columns)),
    ]
    wanted = parallel_text.strings(PAIRS)
    for source in found:
        assert list(source.documents()) == list(wanted.documents())
        assert source.fingerprint == wanted.fingerprint


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


def test_the_fingerprint_tells_pairs_apart():
    found = [[("ab", "c")], [("a", "bc")], [("c", "ab")], [("ab", "d")], [("ab", "c"), ("d", "e")]]
    found += [[("ab", "d"), ("c", "e")]]
    assert len({parallel_text.strings(pairs).fingerprint for pairs in found}) == len(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_of_pairs_has_two_documents_a_pair(tmp_path, kind):
    texts = [line for text in documents()[:9] for line in text.splitlines() if line.strip()]
    pairs = [*zip(texts, reversed(texts), strict=True), ("A. B! C", "-"), ("1", "日")]
    whole = corpus.prepare(parallel_text.strings(pairs), tokenizer(kind), tmp_path, None)
    assert parallel_text.num_pairs(whole) == len(pairs)
    for number in (0, 1, 17, len(pairs) - 1):
        for side in (0, 1):
            start, stop = whole.documents[2 * number + side :][:2]
            ids = tokenizer(kind).encode(pairs[number][side], add_special_tokens=False).ids
            assert corpus.read(whole, start, stop).tolist() == ids


# White space; control and format characters; an accent alone; what stands for broken bytes. Of
# these some tokenizer leaves nothing, and all later pairs of a corpus would come apart.
@pytest.mark.parametrize(
    "empty", ["", " \t\u3000", "\x00\x7f", "\u200b\xad", "\u0301", "\u00b4", "\ufffd"]
)
def test_a_text_of_nothing_is_named(tmp_path, empty):
    found = refused(parallel_text.lines, *files(tmp_path, "a\nb\n", f"a\n{empty}\n"))
    assert found.startswith("line 2 of ")
    assert "b.de is empty: leave out the pair" in found
    found = refused(parallel_text.strings, [("a", "b"), (empty, "c")])
    assert found.startswith("pairs[1][0] is empty")
    row = json.dumps({"source": "a", "target": empty})
    found = refused(parallel_text.table, write(tmp_path / "c.jsonl", row))
    assert re.match(r"the target in line 1 of .*c.jsonl is empty", found)


def test_files_without_pairs_are_named(tmp_path):
    assert re.match(
        "no pairs in .*a.en and .*b.de", refused(parallel_text.lines, *files(tmp_path, "", ""))
    )
    assert re.match(
        "no pairs in .*a.tsv", refused(parallel_text.table, write(tmp_path / "a.tsv", ""))
    )
    assert refused(parallel_text.strings, []) == "no pairs in an empty list"


def test_pairs_in_memory_are_two_strings_each():
    for bad in [("a", "b", "c"), ("a",), ("a", None), "ab" * 99]:
        assert refused(parallel_text.strings, [("a", "b"), bad]).startswith(
            "pairs[1] is not two strings"
        )


@pytest.mark.parametrize(("line", "count"), [("a", 1), ("a\tb\tc", 3), ("a\tb\t", 3), ("", 1)])
def test_a_line_without_two_columns_is_named(tmp_path, line, count):
    path = write(tmp_path / "a.tsv", f"a\tb\n{line}\nc\td\n")
    found = refused(parallel_text.table, path)
    assert found.startswith(f"line 2 of {path} has {count} columns, not 2: put one tab")


@pytest.mark.parametrize("line", ["", "[1]", '"text"', "{", "null", "{'source': 1}"])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    path = write(tmp_path / "a.jsonl.gz", f'{{"source": "a", "target": "b"}}\n{line}\n')
    assert refused(parallel_text.table, path).startswith(f"line 2 of {path} is not a JSON object")


@pytest.mark.parametrize("row", [{"source": "a", "goal": "b"}, {"source": "a", "target": 1}, {}])
def test_an_object_without_a_text_in_a_field_is_named_with_its_fields(tmp_path, row):
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    found = refused(parallel_text.table, path)
    assert found.startswith(f"line 1 of {path} has no text in the field '")
    assert all(repr(field) in found for field in row)


def test_what_cannot_be_written_as_utf8_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"source": "a\\ud800", "target": "b"}')
    assert refused(parallel_text.table, path).startswith(
        f"the source in line 1 of {path} is not text"
    )


def test_a_file_of_another_kind_is_named(tmp_path):
    assert ".tsv or .jsonl" in refused(parallel_text.table, tmp_path / "a.csv")
    assert ".tsv or .jsonl" in refused(parallel_text.table, tmp_path / "a.tsv.zip")
    assert "are for .jsonl" in refused(parallel_text.table, tmp_path / "a.tsv", ("a", "b"))


def test_a_missing_or_broken_file_is_named(tmp_path):
    good = write(tmp_path / "good", "a\n" * 5)
    with pytest.raises(FileNotFoundError, match=r"no such text file: .*missing"):
        parallel_text.lines(good, tmp_path / "missing")
    bad = write(tmp_path / "bad.gz", b"a\nb\nc\nd\n\xff\n")
    assert f"{bad} is not UTF-8 at byte 8" in refused(parallel_text.lines, good, bad)
    bad.write_bytes(bad.read_bytes()[:-12])
    assert f"{bad} is not a whole gzip file" in refused(parallel_text.lines, good, bad)


def unequal(folder, count: int, missing: int) -> str:
    """What is told of files of lines with one of them missing in the second."""
    draw = random.Random(0)
    lengths = [math.ceil(draw.lognormvariate(4, 0.6)) for _ in range(count)]
    other = [math.ceil(length * draw.lognormvariate(0.1, 0.2)) for length in lengths]
    del other[missing - 1]
    return refused(
        parallel_text.lines,
        *files(folder, *("".join("x" * n + "\n" for n in side) for side in (lengths, other))),
    )


@pytest.mark.parametrize(("count", "missing"), [(100, 50), (1000, 300), (5000, 4900)])
def test_files_of_unequal_length_are_named_with_about_the_line_where_they_part(
    tmp_path, count, missing
):
    found = unequal(tmp_path, count, missing)
    assert re.search(rf"a.en has {count} lines, .*b.de has {count - 1}: ", found)
    line = int(re.search(r"look at line (\d+)", found)[1])
    assert abs(line - missing) <= 10


def test_a_file_that_only_ends_early_is_named_with_its_end(tmp_path):
    assert "up to line 999 their lengths fit, so look at line 1000" in unequal(tmp_path, 1000, 1000)
    found = refused(parallel_text.lines, *files(tmp_path, "", "a\nb\n"))
    assert re.search(r"a.en has 0 lines, .*b.de has 2: ", found)
    assert "look at line 2" in refused(parallel_text.lines, *files(tmp_path, "a\n", "a\nb\n"))


def test_sides_without_common_letters_are_told():
    english, russian = "attention aligns words", "внимание выравнивает слова"
    warning = parallel_text.unlike(parallel_text.strings([(english, russian)] * 3))
    assert "share no letters" in warning
    assert "\n" not in warning
    rare = [(english, russian)] * 199 + [(english, "GRU")]
    assert parallel_text.unlike(parallel_text.strings(rare))
    assert parallel_text.unlike(parallel_text.strings([(english, "Aufmerksamkeit")])) is None
    assert (
        parallel_text.unlike(parallel_text.strings([(english, "2026-11-23")])) is None
    )  # has no letters
    late = [(english, russian)] * 1000 + [(english, english)] * 1000
    assert parallel_text.unlike(parallel_text.strings(late))


@pytest.mark.parametrize(("pairs", "size"), [(2, 1), (20, 1), (39, 1), (40, 2), (50_000, 2000)])
def test_a_split_is_of_whole_pairs_and_no_larger_than_a_twentieth_and_2000(pairs, size):
    whole = numbered(2 * pairs, longest=3, sentence=2)
    train, held_out = parallel_text.split(whole)
    assert (parallel_text.num_pairs(train), parallel_text.num_pairs(held_out)) == (
        pairs - size,
        size,
    )
    assert np.array_equal(np.append(train.documents[:-1], held_out.documents), whole.documents)
    assert np.array_equal(np.append(train.sentences[:-1], held_out.sentences), whole.sentences)
    assert np.array_equal(np.append(train.bytes[:-1], held_out.bytes), whole.bytes)
    for part in (train, held_out):
        assert [*part.documents[[0, -1]]] == [*part.sentences[[0, -1]]]
        assert len(part.bytes) == len(part.sentences)


def test_fewer_than_two_pairs_are_not_split():
    assert refused(parallel_text.split, numbered(2)).startswith("1 pair cannot be split")


def test_documents_that_are_no_pairs_are_refused():
    assert refused(parallel_text.split, numbered(5)).startswith("the corpus has 5 documents")


def test_targets_are_the_tokens_of_every_second_document():
    for part in parallel_text.split(numbered(80)):
        bounds = part.documents
        wanted = [part.tokens[bounds[i] : bounds[i + 1]] for i in range(1, len(bounds) - 1, 2)]
        assert np.array_equal(parallel_text.targets(part), np.concatenate(wanted))
