"""Pairs of segments `[CLS] A [SEP] B [SEP]`, for BERT (Devlin et al. 2018, appendix A.2).

A batch is {"tokens": int32 [B, L], "segments": int32 [B, L] (0 up to the first [SEP], then 1),
"mask": bool [B, L] (False on padding), "words": bool [B, L] (True where a word starts; False on the
special tokens), "next": int32 [B] (0: B follows A in the text; 1: B comes from elsewhere)}.

A document is cut into chunks of whole sentences, once: each takes sentences until it has as many
tokens as fit, or for one document in ten, as a length drawn for that document. Where A ends within
its chunk, whether B is random, which one, and from which side a pair that is too long is shortened,
are drawn at every visit.

Departures from `create_pretraining_data.py`, which writes ten fixed copies: the draws are new in
every epoch; sentences of a chunk that a random B displaces wait for their next epoch instead of
going back into the text; a document of more than 1024 sentences counts as several.
"""

from typing import NamedTuple

import numpy as np

from train.data.batches import Batch, Batches, once, shuffled
from train.data.corpus import Corpus, num_tokens, read, word_starts

SPECIALS = 3  # [CLS], [SEP], [SEP]
SHORT = 0.1  # of the documents have shorter chunks
MOST_SENTENCES = 1024  # of a section, which is a document or a part of a very long one


def train(
    corpus: Corpus,
    length: int,
    batch: int,
    seed: int,
    *,
    cls: int,
    sep: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every chunk once an epoch, shuffled and drawn anew.

    Raises ValueError where the text is shorter than one pair, or where a pair could hold nothing.
    """
    if num_tokens(corpus) < length - SPECIALS:
        raise ValueError(
            f"the text has {num_tokens(corpus)} tokens, a pair of length {length} needs "
            f"{length - SPECIALS}: give more text, or a shorter length"
        )
    chunks = _chunks(corpus, length, seed)
    example = lambda number, random: _pair(corpus, chunks, number, length, cls, sep, random)
    return shuffled(example, len(chunks.starts) - 1, batch, seed, process)


def evaluate(
    corpus: Corpus,
    length: int,
    batch: int,
    *,
    cls: int,
    sep: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every chunk exactly once, in order, always drawn alike."""
    chunks = _chunks(corpus, length, 0)
    example = lambda number, random: _pair(corpus, chunks, number, length, cls, sep, random)
    return once(example, len(chunks.starts) - 1, batch, process)


class _Chunks(NamedTuple):
    """How a corpus is cut. Sentences are counted; each list ends with their number."""

    starts: np.ndarray  # the first sentence of each chunk
    sections: np.ndarray  # the first sentence of each section
    targets: np.ndarray  # tokens of a chunk in each section


def _chunks(corpus: Corpus, length: int, seed: int) -> _Chunks:
    room = length - SPECIALS
    if room < 2:
        raise ValueError(f"a pair of length {length} has no room for two segments: 5 is the least")
    sentences = corpus.sentences
    sections = _sections(np.searchsorted(sentences, corpus.documents))
    random = np.random.default_rng(seed)
    count = len(sections) - 1
    short = random.random(count) < SHORT
    targets = np.where(short, random.integers(2, room + 1, count), room)
    # All sections are cut side by side, a chunk each in every round.
    rounds, at = [], np.arange(count)
    first = sections[:-1]
    while len(first):
        rounds.append(first)
        reached = np.searchsorted(sentences, sentences[first] + targets[at])
        more = reached < sections[at + 1]
        first, at = reached[more], at[more]
    starts = np.sort(np.concatenate([*rounds, sections[-1:]]))
    return _Chunks(starts, sections, targets)


def _sections(documents: np.ndarray) -> np.ndarray:
    """The first sentences of the documents, and of every part of one that is very long."""
    parts = -(-np.diff(documents) // MOST_SENTENCES)
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.append(np.repeat(documents[:-1], parts) + part * MOST_SENTENCES, documents[-1])


def _pair(corpus, chunks: _Chunks, number: int, length: int, cls: int, sep: int, random) -> Batch:
    first, end = (int(sentence) for sentence in chunks.starts[number : number + 2])
    section = int(np.searchsorted(chunks.sections, first, "right")) - 1
    middle = first + (int(random.integers(1, end - first)) if end - first > 1 else 1)
    a_start, a_stop = (int(corpus.sentences[sentence]) for sentence in (first, middle))
    elsewhere = middle == end or random.random() < 0.5
    if elsewhere:
        wanted = int(chunks.targets[section]) - (a_stop - a_start)
        b_start, b_stop = _elsewhere(corpus, chunks, section, wanted, random)
    else:
        b_start, b_stop = a_stop, int(corpus.sentences[end])
    a_drop, b_drop = drops(a_stop - a_start, b_stop - b_start, length - SPECIALS)
    a_front, b_front = random.binomial(a_drop, 0.5), random.binomial(b_drop, 0.5)
    a = slice(a_start + a_front, a_stop - a_drop + a_front)
    b = slice(b_start + b_front, b_stop - b_drop + b_front)
    return _row(corpus, a, b, length, cls, sep) | {"next": np.int32(elsewhere)}


def _elsewhere(corpus, chunks: _Chunks, section: int, wanted: int, random) -> tuple[int, int]:
    """Whole sentences of another section, of any if there is but one, that have `wanted` tokens."""
    count = len(chunks.sections) - 1
    if count > 1:
        other = int(random.integers(count - 1))
        section = other + (other >= section)
    first, end = (int(sentence) for sentence in chunks.sections[section : section + 2])
    first = int(random.integers(first, end))
    start = int(corpus.sentences[first])
    bounds = corpus.sentences[first + 1 : end + 1]
    last = min(int(np.searchsorted(bounds, start + wanted)), len(bounds) - 1)
    return start, int(bounds[last])


def drops(a: int, b: int, room: int) -> tuple[int, int]:
    """How many tokens two segments lose, one at a time, always from the longer one, or from b."""
    over = max(a + b - room, 0)
    level = min(over, abs(a - b))  # until they are equally long
    from_a = (level if a > b else 0) + (over - level) // 2
    return from_a, over - from_a


def _row(corpus: Corpus, a: slice, b: slice, length: int, cls: int, sep: int) -> Batch:
    tokens = np.zeros(length, np.int32)
    segments = np.zeros(length, np.int32)
    words = np.zeros(length, bool)
    tokens[0] = cls
    at = 1
    for segment, part in enumerate((a, b)):
        stop = at + part.stop - part.start
        tokens[at:stop] = read(corpus, part.start, part.stop)
        words[at:stop] = word_starts(corpus, part.start, part.stop)
        words[at] = True  # a word whose beginning was cut off begins here
        tokens[stop] = sep
        segments[at : stop + 1] = segment
        at = stop + 1
    return {"tokens": tokens, "segments": segments, "mask": np.arange(length) < at, "words": words}
