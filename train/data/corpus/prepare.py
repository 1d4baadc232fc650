"""Tokenization of a text into a corpus on disk.

The arrays grow shard by shard. After each shard, a line in `journal.jsonl` records their lengths,
so a run that was killed continues after the last complete shard and produces the same bytes. While
a shard is tokenized and written, a thread reads the next one and splits it into words; no more than
two are in memory.
"""

import contextlib
import fcntl
import itertools
import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from train.data.corpus import encode, journal
from train.data.corpus.corpus import Corpus
from train.data.corpus.pair_corpus import PairCorpus
from train.data.progress import Progress
from train.data.sources.source import Piece, Source
from zoo import tokenizers
from zoo.tokenizers import AnyTokenizer

VERSION = 2  # of what a corpus contains; part of the names of cached corpora
SHARD = 1 << 21  # characters tokenized at a time; bounds the memory, and the work lost by a kill

# A sentence ends at the end of its line, or at a full stop followed by a capital, a digit or a
# quote. The split is always between a non-space character and white space. No token of our
# tokenizers spans such a position, so tokenizing sentence by sentence gives the same tokens as
# tokenizing the whole text.
_LINE_END = r"(?<=\S)(?=[ \t\r]*\n)"
_STOP_END = "(?<=[.!?])[\"'\u201d\u2019)\\]]*(?=[ \\t]+[\"'\u201c\u2018(\\[]?[^\\W_a-z])"
_NEXT = "(?=[ \\t\\r\\n\"'\u201d\u2019)\\]])"  # implied by both; rejects most places at once
_SENTENCE_END = re.compile(f"{_NEXT}(?:{_LINE_END}|{_STOP_END})")


def prepare(
    source: Source,
    tokenizer: AnyTokenizer,
    folder: str | Path,
    end_of_document: int | None,
) -> Corpus:
    """Tokenize a source into `folder`, or open the corpus if it is already there.

    Names of special tokens in the text are treated as ordinary text. A call that was killed is
    continued by the next call; concurrent calls wait for the first. Memory use is bounded.

    Args:
      source: The text, or pairs of texts.
      tokenizer: One tokenizer, or `Sides`: one for the even documents and one for the odd ones.
      folder: The folder of the corpus.
      end_of_document: The id inserted before every document and after the last one, so that every
        token of the text has a preceding token. None: nothing is inserted.

    Returns:
      A Corpus, or a PairCorpus if the source consists of pairs.

    Raises:
      ValueError: If the folder contains other data, or if the source, or one text of a pair, has no
        tokens.
      OSError: If the disk is full.
    """
    folder = Path(folder)
    vocab_size = tokenizer.get_vocab_size()
    types = _types(vocab_size)
    header = {
        "source": source.fingerprint,
        "tokenizer": tokenizers.fingerprint(tokenizer),
        "end_of_document": end_of_document,
        "vocab_size": vocab_size,
    }
    if end_of_document is not None and not 0 <= end_of_document < vocab_size:
        raise ValueError(f"the end-of-document id {end_of_document} is not below {vocab_size}")
    with journal.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entry = journal.resume(folder, types, header)
        if not (entry and entry.whole):
            sides = tokenizers.sides(tokenizer)
            both = [sides.source] if sides.source is sides.target else [sides.source, sides.target]
            plain = [tokenizers.ordinary(side) for side in both]
            _write(source, plain, end_of_document, folder, types, entry)
    return open_pairs(folder) if source.kind == "pairs" else open(folder)


def open(folder: str | Path) -> Corpus:
    """Open a corpus that `prepare` has finished.

    Raises:
      FileNotFoundError: If there is no corpus in the folder.
      ValueError: If the corpus is unfinished or truncated.
    """
    arrays, _ = _open(Path(folder))
    return Corpus(**arrays)


def open_pairs(folder: str | Path) -> PairCorpus:
    """Open a corpus of pairs that `prepare` has finished.

    Raises:
      FileNotFoundError: If there is no corpus in the folder.
      ValueError: If the corpus is unfinished or truncated, or if a text has no tokens.
    """
    arrays, num_texts = _open(Path(folder))
    if len(arrays["documents"]) - 1 != num_texts:
        raise ValueError(
            f"some of the {num_texts:,} texts have no tokens, which would shift all later pairs: "
            "use another --tokenizer"
        )
    return PairCorpus(**arrays)


def sentence_ends(text: str) -> list[int]:
    """Return the end offset of every sentence; the last is the end of the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    while ends and not text[ends[-1] :].strip():
        ends.pop()
    return [*ends, len(text)]


def _types(vocab_size: int) -> dict[str, str]:
    """Return the type on disk of each array of a corpus."""
    ids = "uint16" if vocab_size <= 1 << 16 else "uint32"
    offsets = dict.fromkeys(("sentences", "documents", "bytes"), "int64")
    return {"tokens": ids, "words": journal.BITS, **offsets}


def _open(folder: Path) -> tuple[dict, int]:
    """Return the fields of a corpus, and the number of pieces of text that it was made from."""
    if not (folder / "journal.jsonl").exists():
        raise FileNotFoundError(f"no corpus in {folder}")
    header, entries = journal.read(folder)
    vocab_size = header["vocab_size"]
    types = _types(vocab_size)
    if not entries or not entries[-1].whole or not journal.reaches(folder, types, entries[-1]):
        raise ValueError(f"the corpus in {folder} is incomplete: prepare it again to continue")
    journal.check(folder, types, entries)
    last = entries[-1]
    corpus = {"vocab_size": vocab_size, "fingerprint": last.fingerprint}
    return corpus | journal.open(folder, types), last.state["pieces"]


def _write(
    source: Source,
    sides: Sequence[Tokenizer],
    end_of_document: int | None,
    folder: Path,
    types: dict[str, str],
    entry: journal.Entry | None,
) -> None:
    """Tokenize the pieces that the journal does not record yet, and finish the corpus."""
    state: dict[str, Any] = {"pieces": 0, "num_bytes": 0, "pending": False}
    if entry:
        state = entry.state
    pieces, document = source.pieces(), -1
    for piece in itertools.islice(pieces, state["pieces"]):
        document = piece.document
    with (
        Progress("corpus", source.num_bytes, state["num_bytes"]) as progress,
        contextlib.closing(_ahead(_shards(pieces, document, sides))) as shards,
    ):
        for shard in shards:
            start = entry.lengths["tokens"] if entry else 0
            arrays, pending = _tokenize(shard, sides, end_of_document, state["pending"])
            arrays["sentences"] += start
            arrays["documents"] += start
            arrays["bytes"] += state["num_bytes"]
            num_bytes = int(shard.sizes.sum())
            state = {
                "pieces": state["pieces"] + shard.num_pieces,
                "num_bytes": state["num_bytes"] + num_bytes,
                "pending": pending,
            }
            entry = journal.append(folder, types, entry, arrays, state)
            progress.add(num_bytes)
    if not (entry and entry.lengths["tokens"]):
        raise ValueError("the text has no tokens: use another text or another --tokenizer")
    tokens = [] if end_of_document is None else [end_of_document]
    end = [entry.lengths["tokens"] + len(tokens)]
    closing = {"tokens": tokens, "words": [1] * len(tokens), "sentences": end}
    closing |= {"documents": end, "bytes": [state["num_bytes"]]}
    journal.append(folder, types, entry, closing, state, is_last=True)


class _Shard(NamedTuple):
    """Some pieces of text as sentences; the arrays have one value for each sentence."""

    num_pieces: int
    starts: np.ndarray  # whether it starts its document
    sizes: np.ndarray  # in bytes
    sides: list[np.ndarray]  # for each tokenizer, the indices of its sentences
    words: list[encode.Split]  # for each tokenizer, its sentences


def _shards(
    pieces: Iterator[Piece], last_document: int, sides: Sequence[Tokenizer]
) -> Iterator[_Shard]:
    """Yield the remaining pieces in shards; `last_document` is the number of the one before."""
    while taken := _take(pieces):
        texts: list[str] = []
        documents: list[int] = []
        starts: list[bool] = []
        for piece in taken:
            bounds = [0, *sentence_ends(piece.text)]
            texts += [piece.text[a:b] for a, b in itertools.pairwise(bounds)]
            documents += [piece.document] * (len(bounds) - 1)
            starts += [piece.document != last_document, *[False] * (len(bounds) - 2)]
            last_document = piece.document
        side = np.array(documents) % len(sides)
        indices = [np.flatnonzero(side == number) for number in range(len(sides))]
        words = [
            encode.split([texts[i] for i in indices[number]], tokenizer)
            for number, tokenizer in enumerate(sides)
        ]
        sizes = np.array([len(text.encode()) for text in texts])
        yield _Shard(len(taken), np.array(starts), sizes, indices, words)


def _take(pieces: Iterator[Piece]) -> list[Piece]:
    """Return the next pieces, up to the first that completes a shard."""
    taken, size = [], 0
    while size < SHARD and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        size += len(piece.text)
    return taken


def _ahead(shards: Iterator[_Shard]) -> Generator[_Shard, None, None]:
    """Yield the shards; a thread makes the next one while the caller works on this one."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, shards, None)
        while (shard := following.result()) is not None:
            following = thread.submit(next, shards, None)
            yield shard


def _tokenize(
    shard: _Shard, sides: Sequence[Tokenizer], end_of_document: int | None, pending: bool
) -> tuple[dict[str, np.ndarray], bool]:
    """Tokenize a shard.

    Args:
      shard: The shard.
      sides: The tokenizers of the even and the odd documents, or one for all.
      end_of_document: The id inserted before every document, or None.
      pending: Whether the last document has no token yet. (Control characters alone give none.)

    Returns:
      The arrays of the shard, with offsets relative to its start, and whether its last document
      has no token yet.
    """
    tokens, words, lengths = _encode(shard, sides)
    starts, sizes = shard.starts, shard.sizes
    offsets = np.cumsum(lengths) - lengths
    if end_of_document is not None:
        tokens = np.insert(tokens, offsets[starts], end_of_document)
        words = np.insert(words, offsets[starts], True)
        lengths = lengths + starts
        offsets = np.cumsum(lengths) - lengths
    # A sentence without tokens is merged into the one before it, and a document starts with its
    # first token, which may be in a later shard.
    kept = lengths > 0
    document = np.cumsum(starts)
    with_tokens = np.concatenate([[-1 if pending else 0], document[kept]])
    arrays = {
        "tokens": tokens,
        "words": words,
        "sentences": offsets[kept],
        "documents": offsets[kept][np.diff(with_tokens) != 0],
        "bytes": (np.cumsum(sizes) - sizes)[kept],
    }
    return arrays, bool(with_tokens[-1] != document[-1])


def _encode(shard: _Shard, sides: Sequence[Tokenizer]) -> encode.Encoded:
    """Return the tokens of a shard, each sentence encoded by the tokenizer of its side."""
    parts = [encode.encode(words, side) for words, side in zip(shard.words, sides, strict=True)]
    if len(parts) == 1:
        return parts[0]
    tokens, words, lengths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(np.concatenate(shard.sides))
    places = encode.ragged((np.cumsum(lengths) - lengths)[order], lengths[order])
    return encode.Encoded(tokens[places], words[places], lengths[order])
