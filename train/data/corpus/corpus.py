"""A corpus: a text, tokenised once into arrays on disk that are mapped into memory.

The arrays grow shard by shard. After each shard a line in `journal.jsonl` says how far they reach,
so a run that is killed goes on from the last whole shard and ends in the same bytes.
"""

import fcntl
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data.corpus import journal
from train.data.sources.text import Continuation, Source
from zoo import tokenizers

SHARD = 1 << 21  # characters tokenised at a time, which bounds the memory and what a kill can lose

# A sentence ends with its line, or with its full stop where a capital, a digit or a quote follows.
# The cut is always before white space that follows something else: there no tokenizer of ours has a
# token that reaches across, so the tokens of the sentences are those of the whole text.
_LINE_END = r"(?<=\S)(?=[ \t\r]*\n)"
_STOP_END = "(?<=[.!?])[\"'\u201d\u2019)\\]]*(?=[ \\t]+[\"'\u201c\u2018(\\[]?[^\\W_a-z])"
_SENTENCE_END = re.compile(f"{_LINE_END}|{_STOP_END}")


class Corpus(NamedTuple):
    """A tokenised text, or a part of one.

    A part shares `tokens` and `words` with the whole; it is what lies between the first and the
    last of its `sentences`. All offsets count from the beginning of the whole.
    """

    tokens: np.ndarray  # the whole stream: uint16 or uint32
    words: np.ndarray  # a bit a token, 1 where a word starts, in uint8 with the low bit first
    sentences: np.ndarray  # int64 offsets of the sentences, and the end
    documents: np.ndarray  # int64 offsets of the documents, and the end
    bytes: np.ndarray  # int64: bytes of UTF-8 text before each sentence, and before the end
    vocab_size: int
    fingerprint: str  # sha256 of the arrays of the whole


def num_tokens(corpus: Corpus) -> int:
    """How many tokens a corpus or a part has."""
    return int(corpus.sentences[-1] - corpus.sentences[0])


def num_bytes(corpus: Corpus) -> int:
    """How many bytes of UTF-8 text a corpus or a part was made from."""
    return int(corpus.bytes[-1] - corpus.bytes[0])


def read(corpus: Corpus, start: int, stop: int) -> np.ndarray:
    """The tokens from `start` to `stop`: int32 [stop - start].

    Raises ValueError where an id is out of range, as in a damaged file.
    """
    tokens = corpus.tokens[start:stop].astype(np.int32)
    if len(tokens) and tokens.max() >= corpus.vocab_size:
        at = start + int(tokens.argmax())
        raise ValueError(
            f"token {at} of the corpus is {tokens.max()}, the vocabulary ends at "
            f"{corpus.vocab_size - 1}: delete the corpus and prepare it again"
        )
    return tokens


def word_starts(corpus: Corpus, start: int, stop: int) -> np.ndarray:
    """Which tokens from `start` to `stop` begin a word: bool [stop - start]."""
    bits = np.unpackbits(corpus.words[start // 8 : -(-stop // 8)], bitorder="little")
    return bits[start % 8 :][: stop - start].astype(bool)


def prepare(source: Source, tokenizer, folder, end_of_document: int | None) -> Corpus:
    """Tokenises a source into `folder`, or opens what is there.

    With `end_of_document`, that id stands before every document and after the last, so that every
    token of the text has something to be predicted from. Names of special tokens in the text are
    ordinary text. A call that was killed is continued by the next; calls at the same time wait for
    the one that works. Memory is bounded, and threads are those of the tokenizer. Of the two sides
    of a translator's, one reads the even documents and one the odd.

    Raises ValueError where the folder holds other data, or where the source gives no tokens;
    OSError where the disk is full.
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
        raise ValueError(f"end of document {end_of_document} is not an id below {vocab_size}")
    with journal.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entry = journal.resume(folder, types, header)
        if not (entry and entry.whole):
            sides = tokenizers.sides(tokenizer)
            turns = [tokenizers.ordinary(side) for side in (sides.source, sides.target)]
            _write(source, turns, end_of_document, folder, types, entry)
    return open(folder)


def open(folder) -> Corpus:
    """Opens a corpus that `prepare` has finished.

    Raises FileNotFoundError where there is none, ValueError where it is unfinished or cut short.
    """
    folder = Path(folder)
    if not (folder / "journal.jsonl").exists():
        raise FileNotFoundError(f"no corpus in {folder}")
    header, entries = journal.read(folder)
    vocab_size = header["vocab_size"]
    types = _types(vocab_size)
    if not entries or not entries[-1].whole or not journal.reaches(folder, types, entries[-1]):
        raise ValueError(f"the corpus in {folder} is not whole: prepare it again, it will go on")
    arrays = journal.open(folder, types)
    return Corpus(**arrays, vocab_size=vocab_size, fingerprint=entries[-1].fingerprint)


def split(corpus: Corpus, fraction: float = 0.05, most: int = 1_000_000) -> tuple[Corpus, Corpus]:
    """The corpus without its last part, and the last part: (train, held_out).

    The last part has about a `fraction` of the tokens and at most about `most`. It begins with a
    document, or where that would be far off (by half its size), with a sentence. Nothing is copied.

    Raises ValueError where the corpus has too few sentences for two parts.
    """
    size = min(round(fraction * num_tokens(corpus)), most)
    target = int(corpus.sentences[-1]) - size
    cut = _nearest(corpus.documents, target)
    if cut is None or abs(cut - target) > size // 2:
        cut = _nearest(corpus.sentences, target)
    if cut is None:
        raise ValueError("the text is a single sentence, which cannot be split into two parts")
    sentence = int(np.searchsorted(corpus.sentences, cut))
    document = int(np.searchsorted(corpus.documents, cut))
    inside = int(corpus.documents[document]) != cut
    before, after = corpus.documents[: document + 1], corpus.documents[document:]
    if inside:  # the document that is cut is in both parts
        bound = np.array([cut], np.int64)
        before = np.concatenate([corpus.documents[:document], bound])
        after = np.concatenate([bound, after])
    train = corpus._replace(
        sentences=corpus.sentences[: sentence + 1],
        bytes=corpus.bytes[: sentence + 1],
        documents=before,
    )
    held_out = corpus._replace(
        sentences=corpus.sentences[sentence:], bytes=corpus.bytes[sentence:], documents=after
    )
    return train, held_out


def sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end: the last is the end of the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    while ends and not text[ends[-1] :].strip():
        ends.pop()
    return [*ends, len(text)]


def _nearest(offsets: np.ndarray, target: int) -> int | None:
    """The offset nearest to a target, the first and the last aside."""
    inner = offsets[1:-1]
    if not len(inner):
        return None
    at = int(np.searchsorted(inner, target))
    near = [int(offset) for offset in inner[max(at - 1, 0) : at + 1]]
    return min(near, key=lambda offset: abs(offset - target))


def _types(vocab_size: int) -> dict[str, str]:
    """The arrays of a corpus and their types on disk."""
    ids = "uint16" if vocab_size <= 1 << 16 else "uint32"
    offsets = dict.fromkeys(("sentences", "documents", "bytes"), "int64")
    return {"tokens": ids, "words": journal.BITS, **offsets}


def _write(source, turns, end_of_document, folder, types, entry) -> None:
    """Tokenises what the journal does not have yet, and closes the corpus."""
    state = entry.state if entry else {"pieces": 0, "num_bytes": 0, "pending": False}
    pieces = itertools.islice(source.documents(), state["pieces"], None)
    while taken := _take(pieces):
        start = entry.lengths["tokens"] if entry else 0
        arrays, num_bytes, pending = _tokenise(taken, turns, end_of_document, state)
        arrays["sentences"] += start
        arrays["documents"] += start
        arrays["bytes"] += state["num_bytes"]
        state = {
            "pieces": state["pieces"] + len(taken),
            "num_bytes": state["num_bytes"] + num_bytes,
            "pending": pending,
        }
        entry = journal.append(folder, types, entry, arrays, state)
    if not (entry and entry.lengths["tokens"]):
        raise ValueError("the text gives no tokens")
    closing = [] if end_of_document is None else [end_of_document]
    end = [entry.lengths["tokens"] + len(closing)]
    arrays = {"tokens": closing, "words": [True] * len(closing), "sentences": end}
    arrays |= {"documents": end, "bytes": [state["num_bytes"]]}
    journal.append(folder, types, entry, arrays, state, whole=True)


def _take(pieces: Iterator[str]) -> list[str]:
    """The next pieces, until they are a shard long."""
    taken, size = [], 0
    while size < SHARD and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        size += len(piece)
    return taken


def _tokenise(pieces: list[str], turns: list, end_of_document: int | None, state: dict):
    """A shard: its arrays, offsets from its own beginning; its bytes; whether it is pending.

    Pending is a document that has no token yet, as a line of control characters has none.
    """
    texts, starts, places = [], [], []
    for place, piece in enumerate(pieces, state["pieces"]):
        bounds = [0, *sentence_ends(piece)]
        texts += [piece[a:b] for a, b in itertools.pairwise(bounds)]
        places += [place] * (len(bounds) - 1)
        starts += [not isinstance(piece, Continuation), *[False] * (len(bounds) - 2)]
    starts = np.array(starts)
    encodings = _encode(texts, np.array(places) % len(turns), turns)
    lengths = np.array([len(encoding) for encoding in encodings])
    offsets = np.cumsum(lengths) - lengths
    tokens = _concatenate(encoding.ids for encoding in encodings)
    # Word ids start again in every sentence.
    words = np.diff(_concatenate(encoding.word_ids for encoding in encodings), prepend=-1) != 0
    words[offsets[lengths > 0]] = True
    if end_of_document is not None:
        tokens = np.insert(tokens, offsets[starts], end_of_document)
        words = np.insert(words, offsets[starts], True)
        lengths = lengths + starts
        offsets = np.cumsum(lengths) - lengths
    sizes = np.array([len(text.encode()) for text in texts])
    # A sentence of which the tokenizer leaves nothing goes to the one before it, and a document
    # begins with its first token, which may come in a later shard.
    kept = lengths > 0
    document = np.cumsum(starts)
    known = np.concatenate([[-1 if state["pending"] else 0], document[kept]])
    arrays = {
        "tokens": tokens,
        "words": words,
        "sentences": offsets[kept],
        "documents": offsets[kept][np.diff(known) != 0],
        "bytes": (np.cumsum(sizes) - sizes)[kept],
    }
    return arrays, int(sizes.sum()), bool(known[-1] != document[-1])


def _encode(texts: list[str], turn, turns: list) -> list:
    """What each text becomes, by the tokenizer whose turn it is."""
    encodings = np.empty(len(texts), object)
    for number, tokenizer in enumerate(turns):
        mine = np.flatnonzero(turn == number)
        found = tokenizer.encode_batch([texts[i] for i in mine], add_special_tokens=False)
        encodings[mine] = found
    return list(encodings)


def _concatenate(lists) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(lists), np.int64)
