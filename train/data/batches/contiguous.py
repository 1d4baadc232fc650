"""Windows that go on from batch to batch, for recurrent models (Mikolov et al. 2010).

The text is cut into as many columns as a batch has rows, and every row walks down a column of its
own, a window a step: so the state after one step is what the next one begins with.

A batch is that of `windows` and {"fresh": bool [B]}, True where a row begins its column.
"""

import numpy as np

from train.data.batches.batches import Batch, Batches, in_order, once
from train.data.batches.windows import window
from train.data.corpus.corpus import Corpus, num_tokens


def train(
    corpus: Corpus, length: int, batch: int, seed: int, process: tuple[int, int] = (0, 1)
) -> Batches:
    """Full windows of all columns, the same in every epoch. What is left at the end is dropped.

    Raises ValueError where the text has no window for every row.
    """
    steps = (num_tokens(corpus) - 1) // length // batch
    if steps < 1:
        raise ValueError(
            f"the text has {num_tokens(corpus)} tokens, {batch} rows of length {length} need "
            f"{batch * length + 1}: give more text, a smaller batch or a shorter length"
        )

    def example(place: int, random: np.random.Generator) -> Batch:
        step = place // batch % steps
        return _row(corpus, place % batch * steps + step, length, step == 0)

    return in_order(example, steps * batch, batch, seed, process)


def evaluate(corpus: Corpus, length: int, batch: int, process: tuple[int, int] = (0, 1)) -> Batches:
    """All windows once, down the columns; the last one is padded with id 0.

    Raises ValueError where the text has no token to predict.
    """
    count = -(-(num_tokens(corpus) - 1) // length)
    if count < 1:
        raise ValueError("the text has a single token, and nothing to predict it from")
    steps = -(-count // batch)
    return once(
        lambda number, _: _row(corpus, number, length, number % steps == 0),
        count,
        batch,
        process,
        lambda place: place % batch * steps + place // batch,
    )


def _row(corpus: Corpus, number: int, length: int, fresh: bool) -> Batch:
    return window(corpus, number, length, 1) | {"fresh": np.bool_(fresh)}
