"""Tiny models of word vectors, with vectors that are written by hand."""

import numpy as np

import zoo
from zoo.models import fasttext, word2vec
from zoo.tokenizers import units

# Genders on the first axis, royalty on the second; the other words are far from them.
VECTORS = {
    "man": (1.0, 0.0, 0.1),
    "woman": (-1.0, 0.0, 0.1),
    "king": (1.0, 1.0, 0.1),
    "queen": (-1.0, 1.0, 0.1),
    "kingdom": (0.1, 3.0, 0.2),
    "bank": (0.0, 0.0, 2.0),
    "river": (0.0, 0.1, 1.0),
    "nothing": (0.0, 0.0, 0.0),
}
SPECIALS = ("<unk>", "</s>")


def by_hand(vectors=VECTORS) -> zoo.Loaded:
    """Return a word2vec with some vectors, and others for special tokens."""
    rows = [(1.0, 1.0, 0.1), (0.0, 0.0, 1.9), *vectors.values()]
    model = word2vec.Word2Vec(word2vec.Config(vocab_size=len(rows) + 2, width=3))
    padded = np.array([*rows, (1.0, 1.0, 0.1), (0.0, 1.0, 0.0)], np.float32)  # no word has these
    return zoo.Loaded(model, {"words": padded}, units.words([*SPECIALS, *vectors]))


def with_ngrams(vocabulary=("running", "jumping", "run", "bank"), max_n: int = 4) -> zoo.Loaded:
    """Return a fastText with random rows."""
    words = [*SPECIALS, *vocabulary]
    config = fasttext.Config(
        vocab_size=len(words), width=8, buckets=50 if max_n else 0, min_n=3, max_n=max_n
    )
    rows = np.random.default_rng(0).normal(size=(config.vocab_size + config.buckets, 8))
    params = {"rows": rows.astype(np.float32)}
    return zoo.Loaded(fasttext.FastText(config), params, units.words(words))
