"""Windows of a fixed length over the whole stream, for causal and span-corruption models.

A batch is {"tokens": int32 [B, L + overlap], "mask": bool [B, L + overlap]}, with the mask False on
padding. Windows are L apart. With an overlap of 1 a causal model reads the first L tokens of a row
and predicts the last L, so each token but the very first is predicted once an epoch; with none each
token is in one window.
"""

import numpy as np

from train.data.batches.batches import Batch, Batches, once, shuffled
from train.data.corpus.corpus import Corpus, num_tokens, read


def train(
    corpus: Corpus,
    length: int,
    batch: int,
    seed: int,
    process: tuple[int, int] = (0, 1),
    overlap: int = 1,
) -> Batches:
    """Full windows, shuffled anew in every epoch. What is left at the end of the text is dropped.

    Raises ValueError where the text is shorter than one window.
    """
    count = (num_tokens(corpus) - overlap) // length
    if count < 1:
        raise ValueError(
            f"the text has {num_tokens(corpus)} tokens, a window of length {length} needs "
            f"{length + overlap}: give more text, or a shorter length"
        )
    example = lambda number, _: window(corpus, number, length, overlap)
    return shuffled(example, count, batch, seed, process)


def evaluate(
    corpus: Corpus,
    length: int,
    batch: int,
    process: tuple[int, int] = (0, 1),
    overlap: int = 1,
) -> Batches:
    """All windows once, in order; the last one is padded with id 0.

    Raises ValueError where the text has no token to predict.
    """
    count = -(-(num_tokens(corpus) - overlap) // length)
    if count < 1:
        raise ValueError("the text has a single token, and nothing to predict it from")
    return once(lambda number, _: window(corpus, number, length, overlap), count, batch, process)


def window(corpus: Corpus, number: int, length: int, overlap: int) -> Batch:
    """One row of a batch; behind the end of the text stands padding."""
    start, size = int(corpus.sentences[0]) + number * length, length + overlap
    found = read(corpus, start, min(start + size, int(corpus.sentences[-1])))
    tokens = np.zeros(size, np.int32)
    tokens[: len(found)] = found
    return {"tokens": tokens, "mask": np.arange(size) < len(found)}
