"""A prepared corpus is the text, token for token; preparing it may be interrupted at any time."""

import errno
import itertools
import os
import re
import shutil
import signal
import string
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.data.tiny_corpus import KINDS, documents, prepared, tokenizer
from train.data.corpus import journal, prepare
from train.data.sources import text
from train.data.sources.source import Piece, Source
from zoo import tokenizers

# White space of every kind around the ends of sentences.
TRICKY = (
    'One. Two! "Three?" (Four.) five. 6. Seven.\n\n\nEight\r\n \t\nNine . Ten.\x1c\nEleven.'
    "\u00a0Twelve.\u2028Thirteen. \u3000Fourteen.\n\u0301Fifteen. \u200dSixteen. Étè. "
    "<mask> [SEP] <|endoftext|>. A\n",
    "  \n leading and trailing \n  ",
    "no cut at all",
)


class Pieces(Source):
    """Documents in pieces, like those of long text files."""

    fingerprint = "pieces"

    def __init__(self, pieces):
        self.contents = pieces

    def documents(self):
        raise AssertionError("the documents were not read in pieces")

    def pieces(self):
        return itertools.starmap(Piece, self.contents)


def encode(kind: str, document: str) -> list[int]:
    return tokenizers.ordinary(tokenizer(kind)).encode(document, add_special_tokens=False).ids


# The tokens


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_are_those_of_the_whole_documents(tmp_path, kind):
    texts = [*documents(), *TRICKY]
    expected = [i for document in texts for i in encode(kind, document)]
    assert prepared(tmp_path, kind, texts=texts).tokens.tolist() == expected


def test_the_end_of_document_precedes_every_document_and_closes_the_corpus(tmp_path):
    texts = documents()[:5]
    expected = [i for document in texts for i in (699, *encode("byte_level_bpe", document))]
    corpus = prepared(tmp_path, end_of_document=699, texts=texts)
    assert corpus.tokens.tolist() == [*expected, 699]
    assert (corpus.tokens[corpus.documents[:-1]] == 699).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end_of_document", [None, 5])
def test_sentences_documents_and_bytes_cover_the_whole_text(tmp_path, kind, end_of_document):
    texts = [*documents(), *TRICKY]
    corpus = prepared(tmp_path, kind, end_of_document, texts)
    assert corpus.sentences[0] == corpus.documents[0] == corpus.bytes[0] == 0
    assert corpus.sentences[-1] == corpus.documents[-1] == len(corpus.tokens) == corpus.num_tokens
    assert corpus.bytes[-1] == corpus.num_bytes == sum(len(t.encode()) for t in texts)
    assert (np.diff(corpus.sentences) > 0).all()
    assert (np.diff(corpus.documents) > 0).all()
    assert np.isin(corpus.documents, corpus.sentences).all()
    assert len(corpus.documents) == len(texts) + 1
    assert len(corpus.bytes) == len(corpus.sentences) > 10 * len(corpus.documents)
    lengths = [len(encode(kind, t)) + (end_of_document is not None) for t in texts]
    lengths[-1] += end_of_document is not None
    assert np.diff(corpus.documents).tolist() == lengths


@pytest.mark.parametrize("shard", [1, 1000])
def test_a_document_without_tokens_is_skipped(tmp_path, monkeypatch, shard):
    monkeypatch.setattr(prepare, "SHARD", shard)
    pieces = [(0, "\x01\x02"), (1, "One.\n\x03\n\x04\nTwo."), (2, "\x05"), (2, "\x06\nThree.")]
    source = Pieces([*pieces, (3, "\x07")])
    corpus = prepare.prepare(source, tokenizer("wordpiece"), tmp_path / "one", None)
    first, second = (encode("wordpiece", document) for document in ("One. Two.", "Three."))
    assert corpus.tokens.tolist() == first + second
    assert corpus.documents.tolist() == [0, len(first), len(corpus.tokens)]
    assert (np.diff(corpus.sentences) > 0).all()


def test_pieces_of_a_long_document_are_one_document(tmp_path, monkeypatch):
    document = "\n".join(documents()[:30])
    file = tmp_path / "long.txt"
    file.write_text(document, "utf-8")
    monkeypatch.setattr(text, "BLOCK", 500)
    monkeypatch.setattr(prepare, "SHARD", 1300)
    corpus = prepare.prepare(text.files([file]), tokenizer("byte_level_bpe"), tmp_path / "c", 699)
    assert corpus.tokens.tolist() == [699, *encode("byte_level_bpe", document), 699]
    assert corpus.documents.tolist() == [0, len(corpus.tokens)]


def test_sentences_end_with_lines_and_full_stops():
    content = 'It is 3.5. "Yes!" he (or she) said. e.g. this?\nNot so\n\n  - an item  \n'
    ends = prepare.sentence_ends(content)
    pieces = [content[a:b] for a, b in itertools.pairwise([0, *ends])]
    assert pieces == [
        "It is 3.5.",
        ' "Yes!" he (or she) said. e.g. this?',
        "\nNot so",
        "\n\n  - an item  \n",
    ]


# Words


WORDS = {  # on ASCII text; how the three split a text before they look for subwords
    "byte_level_bpe": r"'(?:s|t|re|ve|m|ll|d)| ?[a-zA-Z]+| ?[0-9]+| ?[^\sa-zA-Z0-9]+|\s+(?!\S)|\s+",
    "wordpiece": r"[a-zA-Z0-9]+|[^\sa-zA-Z0-9]",
    "unigram": r"\S+",
}


def continues(piece: str) -> bool:
    """Return whether a piece continues a word by ALBERT's code: of English letters and marks."""
    marks = set('!"#$%&()*+,-./:;?@[\\]^_`{|}~')
    return piece not in marks and set(piece) <= marks | set(string.ascii_letters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end_of_document", [None, 5])
def test_words_start_where_a_slow_grouping_by_offsets_has_them(tmp_path, kind, end_of_document):
    texts = [re.sub(r"[^\n -~]", "", document) for document in documents()[:40]]
    expected = []
    for document in texts:
        word_of = {}
        for number, match in enumerate(re.finditer(WORDS[kind], document)):
            word_of |= dict.fromkeys(range(*match.span()), number)
        encoding = tokenizer(kind).encode(document, add_special_tokens=False)
        # The last character of a token is in its word even if the first is the space before it.
        words = [word_of[stop - 1] for _, stop in encoding.offsets]
        expected += [True] * (end_of_document is not None)
        starts = [i == 0 or words[i] != words[i - 1] for i in range(len(words))]
        if kind == "unigram":
            pieces = map(tokenizer(kind).id_to_token, encoding.ids)
            starts = [
                start or not continues(piece) for start, piece in zip(starts, pieces, strict=True)
            ]
        expected += starts
    expected += [True] * (end_of_document is not None)
    corpus = prepared(tmp_path, kind, end_of_document, texts)
    assert corpus.word_starts(0, len(corpus.tokens)).tolist() == expected
    assert not all(expected)
    for start, stop in [(3, 40), (8, 16), (17, 18), (5, 5)]:
        assert corpus.word_starts(start, stop).tolist() == expected[start:stop]


# Parts


def test_the_last_part_is_held_out_from_the_start_of_a_document(tmp_path):
    corpus = prepared(tmp_path, end_of_document=699)
    train, held_out = corpus.split(0.1)
    assert train.sentences[-1] == held_out.sentences[0] == train.documents[-1]
    assert corpus.tokens[held_out.documents[0]] == 699
    assert train.num_tokens + held_out.num_tokens == corpus.num_tokens
    assert train.num_bytes + held_out.num_bytes == corpus.num_bytes
    assert len(train.documents) + len(held_out.documents) == len(corpus.documents) + 1
    assert 0.05 < held_out.num_tokens / corpus.num_tokens < 0.15
    assert np.shares_memory(train.tokens, corpus.tokens)
    assert np.shares_memory(held_out.sentences, corpus.sentences)


def test_the_last_part_of_one_long_document_begins_with_a_sentence(tmp_path):
    corpus = prepared(tmp_path, texts=["\n".join(documents())])
    train, held_out = corpus.split(0.1)
    assert train.sentences[-1] == held_out.sentences[0] in corpus.sentences
    assert train.documents.tolist() == [0, train.sentences[-1]]
    assert held_out.documents.tolist() == [held_out.sentences[0], corpus.sentences[-1]]
    assert 0.09 < held_out.num_tokens / corpus.num_tokens < 0.11


def test_the_last_part_is_about_as_long_as_its_limit(tmp_path):
    _, held_out = prepared(tmp_path).split(0.5, most=2000)
    assert 1000 <= held_out.num_tokens <= 3000


def test_a_single_sentence_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match="single sentence"):
        prepared(tmp_path, texts=["just one sentence"]).split()


# Interrupted preparation


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(prepare, "SHARD", 20_000)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a corpus, without the times at which they were checked."""
    files = [file for file in sorted(folder.iterdir()) if file.name != "checked.json"]
    return {file.name: file.read_bytes() for file in files}


class Killed(BaseException):
    pass


def test_after_a_kill_at_any_write_it_resumes_and_ends_with_the_same_bytes(
    tmp_path, small_shards, monkeypatch
):
    texts = documents()[:60]
    expected = prepared(tmp_path / "whole", "wordpiece", 5, texts)
    fsync = os.fsync
    for last in itertools.count(1):
        calls = itertools.count(1)

        def dying(descriptor, calls=calls, last=last):
            if next(calls) == last:
                os.ftruncate(descriptor, max(os.fstat(descriptor).st_size - 3, 0))
                raise Killed
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", dying)
        folder = tmp_path / str(last)
        try:
            prepared(folder, "wordpiece", 5, texts)
            break
        except Killed:
            monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(ValueError, match="incomplete"):
            prepare.open(folder)
        assert prepared(folder, "wordpiece", 5, texts).fingerprint == expected.fingerprint
        assert contents(folder) == contents(tmp_path / "whole")
    assert last > 20


SCRIPT = """
import sys
from train.data.corpus import prepare
from train.data.sources import text
from zoo import tokenizers
text.BLOCK = prepare.SHARD = 2000
source = text.files([sys.argv[1] + "/text.txt"])
print(prepare.prepare(source, tokenizers.load(sys.argv[1]), sys.argv[2], 699).fingerprint)
"""


def start(inputs: Path, folder: Path) -> subprocess.Popen:
    """Prepare the corpus of a text in another process."""
    (inputs / "text.txt").write_text("\n".join(documents()), "utf-8")
    tokenizers.save(tokenizer("byte_level_bpe"), inputs)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(inputs), str(folder)],
        env={**os.environ, "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_after_a_kill_it_resumes_in_another_process(tmp_path):
    journal = tmp_path / "killed" / "journal.jsonl"
    with start(tmp_path, tmp_path / "killed") as process:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="incomplete"):
        prepare.open(tmp_path / "killed")
    for folder in ("killed", "whole"):
        assert start(tmp_path, tmp_path / folder).communicate()[0]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_concurrent_processes_wait_for_the_first(tmp_path):
    processes = [start(tmp_path, tmp_path / "shared") for _ in range(2)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert start(tmp_path, tmp_path / "alone").communicate()[0]
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_a_second_call_does_not_read_the_text(tmp_path):
    first = prepared(tmp_path)
    source = Pieces(None)  # which cannot be read
    source.fingerprint = text.strings(documents()).fingerprint
    reopened = prepare.prepare(source, tokenizer("byte_level_bpe"), tmp_path, None)
    assert reopened.fingerprint == first.fingerprint
    assert isinstance(reopened.tokens.base, np.memmap)


@pytest.mark.parametrize("name", ["tokens.uint16", "words.bits", "bytes.int64", "sentences.int64"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_array_is_detected_and_prepared_again(tmp_path, small_shards, name, kept):
    prepared(tmp_path)
    before = contents(tmp_path)
    with (tmp_path / name).open("r+b") as file:
        file.truncate(int(kept * len(before[name])))
    with pytest.raises(ValueError, match="incomplete"):
        prepare.open(tmp_path)
    prepared(tmp_path)
    assert contents(tmp_path) == before


def test_a_full_disk_is_an_error_of_one_line_and_nothing_is_lost(
    tmp_path, small_shards, monkeypatch
):
    expected = prepared(tmp_path / "whole").fingerprint
    fsync, calls = os.fsync, itertools.count()

    def full(descriptor):
        if next(calls) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write the corpus: No space left") as error:
        prepared(tmp_path / "full")
    assert "\n" not in str(error.value)
    assert error.value.errno == errno.ENOSPC
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ValueError, match="incomplete"):
        prepare.open(tmp_path / "full")
    assert prepared(tmp_path / "full").fingerprint == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(texts=("Other text.",)), "another source:"),
        (dict(kind="wordpiece"), "another tokenizer:"),
        (dict(end_of_document=3), "another end_of_document:"),
    ],
)
def test_a_folder_of_other_data_is_refused(tmp_path, changed, message):
    prepared(tmp_path)
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, **changed)
    prepared(tmp_path)


def test_a_text_without_tokens_and_a_folder_without_a_corpus_are_named(tmp_path):
    with pytest.raises(ValueError, match="the text has no tokens"):
        prepared(tmp_path / "a", "wordpiece", texts=["\x01"])
    with pytest.raises(FileNotFoundError, match="no corpus in"):
        prepare.open(tmp_path / "b")


def test_an_end_of_document_outside_the_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="id 700 is not below 700"):
        prepared(tmp_path, end_of_document=700)


def flip(file: Path) -> None:
    """Change one bit, and neither the size nor the time of the last change."""
    content, times = bytearray(file.read_bytes()), file.stat()
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("name", ["tokens.uint16", "words.bits", "bytes.int64", "documents.int64"])
def test_a_changed_array_is_noticed(tmp_path, small_shards, name):
    prepared(tmp_path)
    flip(tmp_path / name)
    message = r"was changed after it was written \(shard \d of \d+\): delete that folder"
    for _ in range(2):  # also the second time
        with pytest.raises(ValueError, match=message):
            prepared(tmp_path)


def test_a_longer_array_and_the_one_of_another_text_are_noticed(tmp_path):
    prepared(tmp_path / "one")
    prepared(tmp_path / "other", texts=documents()[::-1])
    shutil.copy2(tmp_path / "other" / "sentences.int64", tmp_path / "one")
    with pytest.raises(ValueError, match="was changed"):
        prepare.open(tmp_path / "one")
    with (tmp_path / "other" / "tokens.uint16").open("ab") as file:
        file.write(bytes(2))
    with pytest.raises(ValueError, match=r"was changed after it was written \(tokens\)"):
        prepare.open(tmp_path / "other")


def test_the_values_are_read_once_and_again_in_a_copy(tmp_path, monkeypatch):
    prepared(tmp_path / "one")
    read = []
    first_difference = journal._first_difference
    counting = lambda *arguments: read.append(1) or first_difference(*arguments)
    monkeypatch.setattr(journal, "_first_difference", counting)
    prepared(tmp_path / "one")
    prepare.open(tmp_path / "one")
    assert not read
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert prepare.open(tmp_path / "two").fingerprint == prepared(tmp_path / "one").fingerprint
    assert len(read) == 1
    prepare.open(tmp_path / "two")
    assert len(read) == 1


def test_an_id_out_of_range_is_named_with_its_position(tmp_path):
    corpus = prepared(tmp_path)
    with (tmp_path / "tokens.uint16").open("r+b") as file:
        file.seek(2 * 123)
        file.write(b"\xff\xff")
    assert len(corpus.read(0, 123)) == 123
    with pytest.raises(ValueError, match="token 123 of the corpus is 65535, but the vocabulary"):
        corpus.read(100, 200)
