"""Pairs of segments `[CLS] A [SEP] B [SEP]` for BERT, ALBERT and ELECTRA.

A batch is {"tokens": int32 [B, L], "segments": int32 [B, L] (0 up to the first [SEP], then 1),
"mask": bool [B, L] (False on padding), "words": bool [B, L] (True where a word starts; False on the
special tokens)}, and the label of each pair, int32 [B]:

    NextSegmentPairs  "next": 0 where B follows A in the text, 1 where B is random
                      (Devlin et al. 2018, appendix A.2)
    OrderedPairs      "order": 0 where B follows A, 1 where A follows B (Lan et al. 2019, 3.1)
    AdjacentPairs     none: B always follows A (Clark et al. 2020)

Each document is split once into chunks of whole sentences. Sentences are added to a chunk until it
reaches its target length: the full length, or for one document in ten a shorter, random one. Four
choices are redrawn in every epoch: where A ends within its chunk, whether B is random, which text
a random B is, and from which end a pair that is too long is truncated.

Departures from `create_pretraining_data.py`, which writes ten fixed copies: the choices are new in
every epoch; the sentences that a random B replaces are skipped until the next epoch instead of
being used in the next pair; a document of more than 1024 sentences is treated as separate
documents. ELECTRA's segments are split where BERT's are, and a chunk with a single sentence is a
pair without B.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator as Random

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, once, shuffled
from train.data.corpus.corpus import Corpus

SPECIALS = 3  # [CLS], [SEP], [SEP]
SHORT = 0.1  # fraction of documents with shorter chunks
SINGLE = 0.1  # fraction of ELECTRA's examples with a single segment
MOST_SENTENCES = 1024  # per section: a document, or a part of a very long document


class Chunks(NamedTuple):
    """The chunks of a corpus, in sentence indices.

    `starts` and `sections` end with the total number of sentences.
    """

    starts: np.ndarray  # the first sentence of each chunk
    sections: np.ndarray  # the first sentence of each section
    targets: np.ndarray  # the target number of tokens per chunk in each section


def split_into_chunks(corpus: Corpus, length: int, seed: int) -> Chunks:
    """Return the chunks of a corpus; the seed decides which documents get shorter chunks."""
    max_tokens = length - SPECIALS
    if max_tokens < 2:
        raise ValueError(f"a pair of length {length} has no room for two segments: use at least 5")
    sentences = corpus.sentences
    sections = _sections(np.searchsorted(sentences, corpus.documents))
    random = np.random.default_rng(seed)
    count = len(sections) - 1
    short = random.random(count) < SHORT
    targets = np.where(short, random.integers(2, max_tokens + 1, count), max_tokens)
    # All sections are split in parallel, one chunk per section in every round.
    rounds, section = [], np.arange(count)
    first = sections[:-1]
    while len(first):
        rounds.append(first)
        next_first = np.searchsorted(sentences, sentences[first] + targets[section])
        unfinished = next_first < sections[section + 1]
        first, section = next_first[unfinished], section[unfinished]
    starts = np.sort(np.concatenate([*rounds, sections[-1:]]))
    return Chunks(starts, sections, targets)


def _sections(documents: np.ndarray) -> np.ndarray:
    """Return the first sentence of every document, or of every part of a very long document."""
    parts = -(-np.diff(documents) // MOST_SENTENCES)
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.append(np.repeat(documents[:-1], parts) + part * MOST_SENTENCES, documents[-1])


@dataclass(frozen=True, kw_only=True)
class SegmentPairs(ABC):
    """Pairs of `length` tokens; `cls` and `sep` are the ids of the special tokens."""

    labelled: ClassVar[bool] = True  # whether the network learns the label of a pair

    length: int
    cls: int
    sep: int

    @abstractmethod
    def choose(
        self, corpus: Corpus, chunks: Chunks, number: int, random: Random
    ) -> tuple[Sequence[slice], Batch]:
        """Return the one or two segments of a chunk as corpus offsets, and their label."""

    def notes(self, corpus: Corpus) -> list[str]:
        """Return a note for the user if all pairs of a text have the same label."""
        sentences = np.diff(np.searchsorted(corpus.sentences, corpus.documents))
        if not self.labelled or sentences.max() > 1:
            return []
        return [
            "every document is a single sentence, so all pairs are random, and which segment "
            "follows cannot be learned: give documents of more than one"
        ]

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every chunk once per epoch, reshuffled and redrawn in every epoch.

        Raises:
          ValueError: If the text is shorter than one pair, or the length has no room for segments.
        """
        if corpus.num_tokens < self.length - SPECIALS:
            raise ValueError(
                f"the text has {corpus.num_tokens} tokens, a pair of length {self.length} needs "
                f"{self.length - SPECIALS}: give more text, or a shorter length"
            )
        chunks = split_into_chunks(corpus, self.length, seed)
        example = lambda number, random: self._example(corpus, chunks, number, random)
        return shuffled(example, len(chunks.starts) - 1, batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every chunk exactly once, in order, with fixed random draws."""
        chunks = split_into_chunks(corpus, self.length, 0)
        example = lambda number, random: self._example(corpus, chunks, number, random)
        return once(example, len(chunks.starts) - 1, batch_size, process)

    def _example(self, corpus: Corpus, chunks: Chunks, number: int, random: Random) -> Batch:
        segments, label = self.choose(corpus, chunks, number, random)
        return _row(corpus, segments, self.length, self.cls, self.sep, random) | label


class NextSegmentPairs(SegmentPairs):
    """Pairs in which B follows A half of the time and is random otherwise."""

    def choose(
        self, corpus: Corpus, chunks: Chunks, number: int, random: Random
    ) -> tuple[Sequence[slice], Batch]:
        start, middle, stop = _halves(corpus, chunks, number, random)
        is_random = middle == stop or random.random() < 0.5
        a = slice(start, middle)
        b = _elsewhere(corpus, chunks, number, a, random) if is_random else slice(middle, stop)
        return (a, b), {"next": np.array(is_random, np.int32)}


class OrderedPairs(SegmentPairs):
    """Consecutive segments, swapped half of the time.

    A chunk with a single sentence is paired with random text and labelled as swapped.
    """

    def choose(
        self, corpus: Corpus, chunks: Chunks, number: int, random: Random
    ) -> tuple[Sequence[slice], Batch]:
        start, middle, stop = _halves(corpus, chunks, number, random)
        a, b = slice(start, middle), slice(middle, stop)
        swapped = middle == stop or random.random() < 0.5
        label = {"order": np.array(swapped, np.int32)}
        if middle == stop:
            return (a, _elsewhere(corpus, chunks, number, a, random)), label
        return ((b, a) if swapped else (a, b)), label


class AdjacentPairs(SegmentPairs):
    """Consecutive segments, or, one time in ten, the whole chunk as a single segment."""

    labelled = False

    def choose(
        self, corpus: Corpus, chunks: Chunks, number: int, random: Random
    ) -> tuple[Sequence[slice], Batch]:
        start, middle, stop = _halves(corpus, chunks, number, random)
        if middle == stop or random.random() < SINGLE:
            return (slice(start, stop),), {}
        return (slice(start, middle), slice(middle, stop)), {}


def _halves(corpus: Corpus, chunks: Chunks, number: int, random: Random) -> tuple[int, int, int]:
    """Return the start of a chunk, a random sentence boundary inside it, and its end."""
    first, end = (int(sentence) for sentence in chunks.starts[number : number + 2])
    middle = first + (int(random.integers(1, end - first)) if end - first > 1 else 1)
    start, stop = int(corpus.sentences[first]), int(corpus.sentences[end])
    return start, int(corpus.sentences[middle]), stop


def _elsewhere(corpus: Corpus, chunks: Chunks, number: int, a: slice, random: Random) -> slice:
    """Return whole sentences of another section, or of the only section, that fill the chunk."""
    section = int(np.searchsorted(chunks.sections, chunks.starts[number], "right")) - 1
    b_size = int(chunks.targets[section]) - (a.stop - a.start)
    count = len(chunks.sections) - 1
    if count > 1:
        other = int(random.integers(count - 1))
        section = other + (other >= section)
    first, end = (int(sentence) for sentence in chunks.sections[section : section + 2])
    first = int(random.integers(first, end))
    start = int(corpus.sentences[first])
    bounds = corpus.sentences[first + 1 : end + 1]
    last = min(int(np.searchsorted(bounds, start + b_size)), len(bounds) - 1)
    return slice(start, int(bounds[last]))


def drops(a: int, b: int, max_tokens: int) -> tuple[int, int]:
    """Return how many tokens to drop from each of two segments.

    Tokens are dropped one by one from the longer segment, or from b if they are equally long.
    """
    excess = max(a + b - max_tokens, 0)
    until_equal = min(excess, abs(a - b))  # tokens dropped until both are equally long
    from_a = (until_equal if a > b else 0) + (excess - until_equal) // 2
    return from_a, excess - from_a


def _row(
    corpus: Corpus, parts: Sequence[slice], length: int, cls: int, sep: int, random: Random
) -> Batch:
    """Return the row of one or two segments, truncated to fit."""
    sizes = [part.stop - part.start for part in parts]
    excess: tuple[int, ...] = (max(0, sizes[0] + 2 - length),)
    if len(parts) == 2:
        excess = drops(sizes[0], sizes[1], length - SPECIALS)
    tokens = np.zeros(length, np.int32)
    segments = np.zeros(length, np.int32)
    words = np.zeros(length, bool)
    tokens[0] = cls
    first = 1
    fronts = [int(random.binomial(drop, 0.5)) for drop in excess]
    for segment, (part, drop, front) in enumerate(zip(parts, excess, fronts, strict=True)):
        start, end = part.start + front, part.stop - drop + front
        stop = first + end - start
        tokens[first:stop] = corpus.read(start, end)
        words[first:stop] = corpus.word_starts(start, end)
        words[first] = True  # a truncated word starts with its first remaining token
        tokens[stop] = sep
        segments[first : stop + 1] = segment
        first = stop + 1
    mask = np.arange(length) < first
    return {"tokens": tokens, "segments": segments, "mask": mask, "words": words}
