"""How well a trained GloVe fits the counts of pairs of words.

python -m tests.glove_fit FOLDER TRAIN.txt DEV.txt    prints the correlation of w . c + b + b' with
ln X over the pairs of both texts, in both orders, and over those of the second that are not in the
first; then the same with the weights f(X) of the loss.
"""

import sys
from dataclasses import replace

import jax
import numpy as np

import zoo
from train.data import cooccurrences
from train.data.sources import text
from train.pretraining import corpus
from train.recipes import glove

CHUNK = 1 << 18


def pairs(recipe, tokenizer, file) -> np.ndarray:
    """Return the pairs of words of a text, counted as in training."""
    words = corpus.corpus(recipe, text.files([file]), tokenizer)
    rule = recipe.for_text(tokenizer, words).rule(tokenizer)
    return cooccurrences.records(words, rule)


def correlations(loaded, records, x_max=10.0) -> tuple[float, float]:
    """Return the correlation of the model with ln X, plain and weighted."""
    logs, weights, predicted = [], [], []
    apply = jax.jit(
        lambda *ids: loaded.model.apply({"params": loaded.params}, *ids, method="log_counts")
    )
    for start in range(0, len(records), CHUNK):
        part = records[start : start + CHUNK]
        for one, other in (("first", "second"), ("second", "first")):
            predicted.append(np.asarray(apply(part[one], part[other]), np.float64))
            logs.append(np.log(part["count"], dtype=np.float64))
            weights.append(np.minimum(part["count"] / x_max, 1) ** 0.75)
    x, y, w = map(np.concatenate, (predicted, logs, weights))
    return correlation(x, y, np.ones_like(x)), correlation(x, y, w)


def correlation(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """Return Pearson's correlation of weighted observations."""
    w = w / w.sum()
    x, y = x - w @ x, y - w @ y
    return float(w @ (x * y) / np.sqrt((w @ x**2) * (w @ y**2)))


def main(folder: str, train: str, dev: str) -> None:
    loaded = zoo.load(folder)
    recipe = replace(glove.tiny(), config=loaded.model.config)
    seen, held_out = (pairs(recipe, loaded.tokenizer, file) for file in (train, dev))
    V = loaded.model.config.vocab_size
    key = lambda records: records["first"] * np.int64(V) + records["second"]
    new = held_out[~np.isin(key(held_out), key(seen))]
    for name, records in (("trained on", seen), ("held out", held_out), ("of these, new", new)):
        plain, weighted = correlations(loaded, records)
        print(f"{name:14} {len(records):>10,} pairs  r {plain:.3f}  weighted {weighted:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
