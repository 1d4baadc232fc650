"""Rows that walk through the text with a memory, for XLNet (Yang et al. 2019, section 2.5).

A row is `[reuse tokens] A <sep> B <sep> <cls>`, L in all, and every step moves it on by `reuse`
tokens; so the memory of one step is what stands before the next. A begins where the reused tokens
end, and ends with a sentence; B is what follows it, or with probability one half comes from
elsewhere. Each is shortened on its right.

A batch is {"tokens": int32 [B, L], "segments": int32 [B, L] (0 up to the first <sep>, then 1; 2 on
<cls>), "mask": bool [B, L] (False on padding), "words": bool [B, L] (True where a word starts;
False on the special tokens), "fresh": bool [B] (True where the row starts again and its memory must
be cleared)}.

Departures from `data_utils.py`: there is no second half of the batch that reads the text backwards,
and in every epoch the rows start elsewhere, up to `reuse` tokens further on.
"""

import numpy as np

from train.data.batches.batches import Batch, Batches, in_order, once
from train.data.batches.segment_pairs import SPECIALS, drops
from train.data.corpus.corpus import Corpus, num_tokens, read, word_starts


def train(
    corpus: Corpus,
    length: int,
    batch: int,
    seed: int,
    *,
    reuse: int,
    cls: int,
    sep: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every row of the batch walks through its own part of the text, again in every epoch.

    Raises ValueError where the text is too short for one step, or a row for two segments.
    """
    count = _count(corpus, length, reuse, shift=reuse - 1)
    steps = count // batch
    if steps < 1:
        raise ValueError(
            f"the text has {num_tokens(corpus)} tokens, {batch} rows of length {length} need "
            f"{length - SPECIALS + batch * reuse - 1}: "
            "give more text, a smaller batch or a shorter length"
        )

    def example(place: int, random: np.random.Generator) -> Batch:
        epoch, step = divmod(place // batch, steps)
        shift = int(np.random.default_rng((seed, epoch)).integers(reuse))
        number = place % batch * steps + step
        fresh = {"fresh": np.bool_(step == 0)}
        start = int(corpus.sentences[0]) + shift + number * reuse
        return _row(corpus, start, length, reuse, cls, sep, random) | fresh

    return in_order(example, steps * batch, batch, seed, process)


def evaluate(
    corpus: Corpus,
    length: int,
    batch: int,
    *,
    reuse: int,
    cls: int,
    sep: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every place of the text exactly once, always drawn alike; the rows walk on as in training.

    Raises ValueError where the text is shorter than one row.
    """
    count = _count(corpus, length, reuse, shift=0)
    if count < 1:
        raise ValueError(
            f"the text has {num_tokens(corpus)} tokens, a row of length {length} needs "
            f"{length - SPECIALS}: give more text, or a shorter length"
        )
    steps = -(-count // batch)

    def example(number: int, random: np.random.Generator) -> Batch:
        start = int(corpus.sentences[0]) + number * reuse
        fresh = {"fresh": np.bool_(number % steps == 0)}
        return _row(corpus, start, length, reuse, cls, sep, random) | fresh

    return once(
        example, count, batch, process, lambda place: place % batch * steps + place // batch
    )


def _count(corpus: Corpus, length: int, reuse: int, shift: int) -> int:
    """How many rows, `reuse` tokens apart, the text has room for behind its first `shift`."""
    if not 0 < reuse <= length - SPECIALS - 2:
        raise ValueError(
            f"a row of length {length} that reuses {reuse} tokens has no room for two segments"
        )
    return (num_tokens(corpus) - shift - (length - SPECIALS)) // reuse + 1


def _row(corpus, start: int, length: int, reuse: int, cls: int, sep: int, random) -> Batch:
    room = length - reuse - SPECIALS
    a_start = start + reuse
    a_stop, b_start, b_stop = _segments(corpus, a_start, room, random)
    a_drop, b_drop = drops(a_stop - a_start, b_stop - b_start, room)
    parts = [(start, a_start), (a_start, a_stop - a_drop), (b_start, b_stop - b_drop)]
    specials = [np.array([], np.int32), np.array([sep], np.int32), np.array([sep, cls], np.int32)]
    tokens, words = [], []
    for (first, stop), special in zip(parts, specials, strict=True):
        tokens += [read(corpus, first, stop), special]
        starts = word_starts(corpus, first, stop)
        starts[:1] = True  # a word whose beginning was cut off begins here
        words += [starts, np.zeros(len(special), bool)]
    segments = np.zeros(length, np.int32)
    segments[parts[1][1] - start + 1 :] = 1
    segments[-1] = 2
    return {
        "tokens": np.concatenate(tokens),
        "segments": segments,
        "mask": np.ones(length, bool),
        "words": np.concatenate(words),
    }


def _segments(corpus: Corpus, start: int, room: int, random) -> tuple[int, int, int]:
    """Where A stops, and where B starts and stops: at least `room` tokens in all."""
    sentences = corpus.sentences
    first = int(np.searchsorted(sentences, start, "right"))
    last = int(np.searchsorted(sentences, start + room))  # the sentence end that fills the room
    inside = last > first  # A can end before that
    a_stop = int(sentences[random.integers(first, last) if inside else last])
    if inside and random.random() < 0.5:
        return a_stop, a_stop, int(sentences[last])
    wanted = max(1, room - (a_stop - start))
    low, high = int(sentences[0]), int(sentences[-1])
    b_start = int(random.integers(low, high - wanted + 1))
    b_stop = b_start + wanted
    sentence = int(np.searchsorted(sentences, b_start, "right")) - 1
    return a_stop, int(sentences[sentence]), int(sentences[np.searchsorted(sentences, b_stop)])
