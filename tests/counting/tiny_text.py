"""A text that is counted in an instant, and a model of it."""

import numpy as np

from train.counting import counts, estimators, tables
from zoo.models.ngram import Config, NGram

UNKNOWN, END, V = 0, 1, 100  # <unk> never occurs
SEED = 2  # of a text that has enough n-grams of every small count to estimate all discounts


def sentences(seed=SEED, count=150) -> list[list[int]]:
    """Few tokens are frequent and many rare, and each is often followed by the same ones."""
    draw = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        tokens = [2 + int(draw.zipf(1.4)) % (V - 2)]
        for _ in range(int(draw.integers(0, 12))):
            tokens.append(2 + (int(draw.integers(2)) * tokens[-1] + int(draw.zipf(1.4))) % (V - 2))
        result.append(tokens)
    return result


def stream(texts) -> np.ndarray:
    """The tokens as a corpus has them: `END` before each text and after the last."""
    return np.array([END, *(token for text in texts for token in [*text, END])], np.uint16)


def count(folder, texts, order=3, chunk=64):
    return counts.count(stream(texts), order, V, END, folder, chunk)


def model(folder, texts, order=3, name="modified-kneser-ney", prune=()):
    """An n-gram model and its tables."""
    levels = count(folder, texts, order)
    kept = tables.kept(levels, prune)
    actual = estimators.estimator(name).estimate(levels, kept)
    built = tables.tables(levels, actual, kept)
    ngrams = tuple(len(table["p"]) for table in built.values())
    return NGram(Config(vocab_size=V, order=order, ngrams=ngrams, end=END)), built
