"""Tokenization of a text into a corpus on disk.

The arrays grow shard by shard. After each shard, a line in `journal.jsonl` records their lengths,
so a run that was killed continues after the last complete shard and produces the same bytes.
"""

import fcntl
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from train.data.corpus import journal
from train.data.corpus.corpus import Corpus
from train.data.corpus.pair_corpus import PairCorpus
from train.data.sources.source import Piece, Source
from zoo import tokenizers
from zoo.tokenizers import AnyTokenizer

SHARD = 1 << 21  # characters tokenized at a time; bounds the memory, and the work lost by a kill

# A sentence ends at the end of its line, or at a full stop followed by a capital, a digit or a
# quote. The split is always between a non-space character and white space. No token of our
# tokenizers spans such a position, so tokenizing sentence by sentence gives the same tokens as
# tokenizing the whole text.
_LINE_END = r"(?<=\S)(?=[ \t\r]*\n)"
_STOP_END = "(?<=[.!?])[\"'\u201d\u2019)\\]]*(?=[ \\t]+[\"'\u201c\u2018(\\[]?[^\\W_a-z])"
_SENTENCE_END = re.compile(f"{_LINE_END}|{_STOP_END}")


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
            pair = [tokenizers.ordinary(side) for side in (sides.source, sides.target)]
            _write(source, pair, end_of_document, folder, types, entry)
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
    last = entries[-1]
    corpus = {"vocab_size": vocab_size, "fingerprint": last.fingerprint}
    return corpus | journal.open(folder, types), last.state["pieces"]


def _write(
    source: Source,
    sides: list[Tokenizer],
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
    while shard := _take_shard(pieces):
        start = entry.lengths["tokens"] if entry else 0
        arrays, num_bytes, pending = _tokenize(
            shard, document, sides, end_of_document, state["pending"]
        )
        document = shard[-1].document
        arrays["sentences"] += start
        arrays["documents"] += start
        arrays["bytes"] += state["num_bytes"]
        state = {
            "pieces": state["pieces"] + len(shard),
            "num_bytes": state["num_bytes"] + num_bytes,
            "pending": pending,
        }
        entry = journal.append(folder, types, entry, arrays, state)
    if not (entry and entry.lengths["tokens"]):
        raise ValueError("the text has no tokens: use another text or another --tokenizer")
    tokens = [] if end_of_document is None else [end_of_document]
    end = [entry.lengths["tokens"] + len(tokens)]
    closing = {"tokens": tokens, "words": [1] * len(tokens), "sentences": end}
    closing |= {"documents": end, "bytes": [state["num_bytes"]]}
    journal.append(folder, types, entry, closing, state, is_last=True)


def _take_shard(pieces: Iterator[Piece]) -> list[Piece]:
    """Return the next pieces, up to the first that completes a shard."""
    shard, size = [], 0
    while size < SHARD and (piece := next(pieces, None)) is not None:
        shard.append(piece)
        size += len(piece.text)
    return shard


def _tokenize(
    pieces: list[Piece],
    last_document: int,
    sides: list[Tokenizer],
    end_of_document: int | None,
    pending: bool,
) -> tuple[dict[str, np.ndarray], int, bool]:
    """Tokenize a shard.

    Args:
      pieces: The shard.
      last_document: The number of the last document of the previous shard.
      sides: The tokenizers of the even and the odd documents.
      end_of_document: The id inserted before every document, or None.
      pending: Whether the last document has no token yet. (Control characters alone give none.)

    Returns:
      The arrays of the shard, with offsets relative to its start; the number of its bytes; and
      whether its last document has no token yet.
    """
    texts: list[str] = []
    documents: list[int] = []
    opens: list[bool] = []  # whether a text starts its document
    for piece in pieces:
        bounds = [0, *sentence_ends(piece.text)]
        texts += [piece.text[a:b] for a, b in itertools.pairwise(bounds)]
        documents += [piece.document] * (len(bounds) - 1)
        opens += [piece.document != last_document, *[False] * (len(bounds) - 2)]
        last_document = piece.document
    starts = np.array(opens)
    encodings = _encode(texts, np.array(documents), sides)
    lengths = np.array([len(encoding) for encoding in encodings])
    offsets = np.cumsum(lengths) - lengths
    tokens = _concatenate(encoding.ids for encoding in encodings)
    # Word ids restart in every sentence.
    words = np.diff(_concatenate(encoding.word_ids for encoding in encodings), prepend=-1) != 0
    words[offsets[lengths > 0]] = True
    if end_of_document is not None:
        tokens = np.insert(tokens, offsets[starts], end_of_document)
        words = np.insert(words, offsets[starts], True)
        lengths = lengths + starts
        offsets = np.cumsum(lengths) - lengths
    sizes = np.array([len(text.encode()) for text in texts])
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
    return arrays, int(sizes.sum()), bool(with_tokens[-1] != document[-1])


def _encode(texts: list[str], documents: np.ndarray, sides: list[Tokenizer]) -> list[Encoding]:
    """Encode every text with the tokenizer of its side (even or odd documents)."""
    encodings = np.empty(len(texts), object)
    for number, tokenizer in enumerate(sides):
        indices = np.flatnonzero(documents % len(sides) == number)
        batch = [texts[i] for i in indices]
        encodings[indices] = tokenizer.encode_batch(batch, add_special_tokens=False)
    return list(encodings)


def _concatenate(lists: Iterable[Sequence[int | None]]) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(lists), np.int64)
