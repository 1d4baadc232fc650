"""Pairs of segments `[CLS] A [SEP] B [SEP]`, as BERT, ALBERT and ELECTRA have them.

A batch is {"tokens": int32 [B, L], "segments": int32 [B, L] (0 up to the first [SEP], then 1),
"mask": bool [B, L] (False on padding), "words": bool [B, L] (True where a word starts; False on the
special tokens)}, and what the way of pairing tells of each pair, int32 [B]:

    next_segment      "next": 0 where B follows A in the text, 1 where it comes from elsewhere
                      (Devlin et al. 2018, appendix A.2)
    sentence_order    "order": 0 where B follows A, 1 where A follows B (Lan et al. 2019, 3.1)
    following         nothing: B always follows A (Clark et al. 2020)

A document is cut into chunks of whole sentences, once: each takes sentences until it has as many
tokens as fit, or for one document in ten, as a length drawn for that document. Where A ends within
its chunk, whether B is random, which one, and from which side a pair that is too long is shortened,
are drawn at every visit.

Departures from `create_pretraining_data.py`, which writes ten fixed copies: the draws are new in
every epoch; sentences of a chunk that a random B displaces wait for their next epoch instead of
going back into the text; a document of more than 1024 sentences counts as several. ELECTRA's
segments are cut where BERT's are, and a chunk of a single sentence is a pair without B.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from train.data.batches.batches import Batch, Batches, once, shuffled
from train.data.corpus.corpus import Corpus, num_tokens, read, word_starts

SPECIALS = 3  # [CLS], [SEP], [SEP]
SHORT = 0.1  # of the documents have shorter chunks
SINGLE = 0.1  # of ELECTRA's examples are a single segment
MOST_SENTENCES = 1024  # of a section, which is a document or a part of a very long one


def train(
    corpus: Corpus,
    length: int,
    batch: int,
    seed: int,
    *,
    cls: int,
    sep: int,
    pair: Callable,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every chunk once an epoch, shuffled and drawn anew, paired by one of the three ways.

    Raises ValueError where the text is shorter than one pair, or where a pair could hold nothing.
    """
    if num_tokens(corpus) < length - SPECIALS:
        raise ValueError(
            f"the text has {num_tokens(corpus)} tokens, a pair of length {length} needs "
            f"{length - SPECIALS}: give more text, or a shorter length"
        )
    chunks = _chunks(corpus, length, seed)
    example = lambda number, random: _row(
        corpus, *pair(corpus, chunks, number, random), length, cls, sep, random
    )
    return shuffled(example, len(chunks.starts) - 1, batch, seed, process)


def evaluate(
    corpus: Corpus,
    length: int,
    batch: int,
    *,
    cls: int,
    sep: int,
    pair: Callable,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every chunk exactly once, in order, always drawn alike."""
    chunks = _chunks(corpus, length, 0)
    example = lambda number, random: _row(
        corpus, *pair(corpus, chunks, number, random), length, cls, sep, random
    )
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


def next_segment(corpus: Corpus, chunks: _Chunks, number: int, random):
    """A, and half of the time what follows it; else what stands elsewhere."""
    start, middle, stop = _halves(corpus, chunks, number, random)
    elsewhere = middle == stop or random.random() < 0.5
    a = slice(start, middle)
    b = _elsewhere(corpus, chunks, number, a, random) if elsewhere else slice(middle, stop)
    return (a, b), {"next": np.int32(elsewhere)}


def sentence_order(corpus: Corpus, chunks: _Chunks, number: int, random):
    """What follows each other, half of the time turned round.

    A chunk of a single sentence is paired with what stands elsewhere, and counts as turned round.
    """
    start, middle, stop = _halves(corpus, chunks, number, random)
    a, b = slice(start, middle), slice(middle, stop)
    if middle == stop:
        return (a, _elsewhere(corpus, chunks, number, a, random)), {"order": np.int32(1)}
    turned = random.random() < 0.5
    return ((b, a) if turned else (a, b)), {"order": np.int32(turned)}


def following(corpus: Corpus, chunks: _Chunks, number: int, random):
    """What follows each other, or one time in ten the whole chunk as a single segment."""
    start, middle, stop = _halves(corpus, chunks, number, random)
    if middle == stop or random.random() < SINGLE:
        return (slice(start, stop),), {}
    return (slice(start, middle), slice(middle, stop)), {}


def _halves(corpus: Corpus, chunks: _Chunks, number: int, random) -> tuple[int, int, int]:
    """Where a chunk starts, where its first half ends with a sentence, where the chunk stops."""
    first, end = (int(sentence) for sentence in chunks.starts[number : number + 2])
    middle = first + (int(random.integers(1, end - first)) if end - first > 1 else 1)
    return tuple(int(corpus.sentences[sentence]) for sentence in (first, middle, end))


def _elsewhere(corpus: Corpus, chunks: _Chunks, number: int, a: slice, random) -> slice:
    """Whole sentences of another section, or of any if there is but one, that fill the chunk."""
    section = int(np.searchsorted(chunks.sections, chunks.starts[number], "right")) - 1
    wanted = int(chunks.targets[section]) - (a.stop - a.start)
    count = len(chunks.sections) - 1
    if count > 1:
        other = int(random.integers(count - 1))
        section = other + (other >= section)
    first, end = (int(sentence) for sentence in chunks.sections[section : section + 2])
    first = int(random.integers(first, end))
    start = int(corpus.sentences[first])
    bounds = corpus.sentences[first + 1 : end + 1]
    last = min(int(np.searchsorted(bounds, start + wanted)), len(bounds) - 1)
    return slice(start, int(bounds[last]))


def drops(a: int, b: int, room: int) -> tuple[int, int]:
    """How many tokens two segments lose, one at a time, always from the longer one, or from b."""
    over = max(a + b - room, 0)
    level = min(over, abs(a - b))  # until they are equally long
    from_a = (level if a > b else 0) + (over - level) // 2
    return from_a, over - from_a


def _row(corpus: Corpus, parts, labels: Batch, length: int, cls: int, sep: int, random) -> Batch:
    """One or two parts of the text, shortened to fit, with what is told of them."""
    sizes = [part.stop - part.start for part in parts]
    over = drops(*sizes, length - SPECIALS) if len(parts) == 2 else (max(0, sizes[0] + 2 - length),)
    tokens = np.zeros(length, np.int32)
    segments = np.zeros(length, np.int32)
    words = np.zeros(length, bool)
    tokens[0] = cls
    at = 1
    fronts = [int(random.binomial(drop, 0.5)) for drop in over]
    for segment, (part, drop, front) in enumerate(zip(parts, over, fronts, strict=True)):
        start, end = part.start + front, part.stop - drop + front
        stop = at + end - start
        tokens[at:stop] = read(corpus, start, end)
        words[at:stop] = word_starts(corpus, start, end)
        words[at] = True  # a word whose beginning was cut off begins here
        tokens[stop] = sep
        segments[at : stop + 1] = segment
        at = stop + 1
    mask = np.arange(length) < at
    return {"tokens": tokens, "segments": segments, "mask": mask, "words": words} | labels
