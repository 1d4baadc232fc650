"""Text files are read as documents, in bounded pieces; bad files are errors of one line."""

import gzip

import pytest

from tests.data.tiny_corpus import KINDS, documents, tokenizer
from train.data.sources import text


def joined(source) -> list[str]:
    """Return the documents, with the pieces of long ones joined."""
    documents = {}
    for piece in source.pieces():
        documents[piece.document] = documents.get(piece.document, "") + piece.text
    assert list(documents) == list(range(len(documents)))
    assert list(documents.values()) == list(source.documents())
    return list(documents.values())


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 50)


def write(path, content: str | bytes) -> str:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def test_a_file_is_a_document(tmp_path):
    paths = [write(tmp_path / "a.txt", "One.\nTwo.\n"), write(tmp_path / "b.txt.gz", "Drei é\n")]
    assert joined(text.files(paths)) == ["One.\nTwo.\n", "Drei é\n"]


@pytest.mark.parametrize("separator", ["\n\n", "<|endoftext|>", "x", "=\n="])
def test_a_separator_splits_a_file_as_str_split_does(tmp_path, small_blocks, separator):
    documents = [f"document {i} " + "word\n word " * (i % 17) for i in range(60)]
    content = separator.join(documents)
    parts = joined(text.files([write(tmp_path / "a.txt", content)], separator))
    assert parts == [part for part in content.split(separator) if part.strip()]


@pytest.mark.parametrize(
    "content",
    ["a line of words\n" * 100, "words and words " * 100, "unbroken" * 300, "日本語" * 99],
)
def test_a_long_document_comes_in_bounded_pieces(tmp_path, small_blocks, content):
    numbers, pieces = zip(*text.files([write(tmp_path / "a.txt", content)]).pieces(), strict=True)
    assert "".join(pieces) == content
    assert len(pieces) > 1
    assert set(numbers) == {0}
    assert max(map(len, pieces)) <= 2 * text.BLOCK
    if " " in content:  # no word is split, and white space stays with the word after it
        assert all(piece[0].isspace() and not piece[-1].isspace() for piece in pieces[1:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_the_pieces_are_those_of_the_document(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(text, "BLOCK", 500)
    document = " \n\n\t".join(documents()[:30])
    encode = lambda part: tokenizer(kind).encode(part, add_special_tokens=False).ids
    pieces = [piece.text for piece in text.files([write(tmp_path / "a.txt", document)]).pieces()]
    assert len(pieces) > 50
    assert [i for part in pieces for i in encode(part)] == encode(document)


def test_white_space_within_a_document_is_bounded_too(tmp_path, small_blocks):
    content = "one" + " " * 1000 + "two"
    pieces = [piece.text for piece in text.files([write(tmp_path / "a.txt", content)]).pieces()]
    assert "".join(pieces) == content
    assert max(map(len, pieces)) <= 2 * text.BLOCK


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        ("one two\n\nthree four", 7),
        ("one two \r\n three four\n", 21),
        ("one two\tthree", 7),
        ("one  \t two", 3),
        ("onetwo", 6),
        ("  \n onetwo", 10),
        (" \n\n\t\n", 5),
    ],
)
def test_a_cut_is_before_the_last_line_ending_else_the_last_space_else_anywhere(content, cut):
    assert text.safe_split(content, 0, len(content)) == cut


def test_the_size_is_that_of_the_text(tmp_path):
    paths = [write(tmp_path / "a.txt", "\ufeffOne é.\n"), write(tmp_path / "b.txt.gz", "Two.\n")]
    assert text.files(paths).num_bytes == len("One é.\nTwo.\n".encode())
    assert text.strings(["é", "a"]).num_bytes == 3


def test_documents_can_be_read_again(tmp_path):
    source = text.files([write(tmp_path / "a.txt", "One.\n\nTwo.")], "\n\n")
    assert joined(source) == joined(source) == ["One.", "Two."]


def test_the_fingerprint_is_that_of_the_text_alone(tmp_path):
    plain = text.files([write(tmp_path / "a.txt", "One.")]).fingerprint
    assert text.files([write(tmp_path / "b.txt.gz", "One.")]).fingerprint == plain
    assert text.files([write(tmp_path / "c.txt", "One!")]).fingerprint != plain
    assert text.files([tmp_path / "a.txt"], "\n").fingerprint != plain
    assert text.files([tmp_path / "a.txt", tmp_path / "a.txt"]).fingerprint != plain
    assert text.strings(["ab", "c"]).fingerprint != text.strings(["a", "bc"]).fingerprint


def test_a_byte_order_mark_is_dropped(tmp_path, small_blocks):
    assert joined(text.files([write(tmp_path / "a.txt", "\ufeffOne.")])) == ["One."]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such text file: .*nothing.txt"):
        text.files([tmp_path / "nothing.txt"])


@pytest.mark.parametrize("content", ["", " \n\t \n"])
def test_an_empty_text_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"no text in .*a.txt"):
        text.files([write(tmp_path / "a.txt", content)])


@pytest.mark.parametrize("offset", [0, 3, 49, 50, 51, 120])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82x", b"\xc3"])
def test_bytes_that_are_not_utf8_are_named_with_their_offset(tmp_path, small_blocks, offset, bad):
    # Two-byte characters, so that some fall across the end of a block.
    head = ("é" * 100).encode()[: offset // 2 * 2] + b"a" * (offset % 2)
    for name in ("a.txt", "a.txt.gz"):
        with pytest.raises(ValueError, match=rf"{name} is not UTF-8 at byte {offset} ") as error:
            text.files([write(tmp_path / name, head + bad)])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"plain " + data])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(damage(gzip.compress(b"many words " * 99)))
    with pytest.raises(ValueError, match=r"a.txt.gz is not a complete gzip file"):
        text.files([path])
