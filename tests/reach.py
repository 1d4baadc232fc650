"""How far back a language model reads: `python -m tests.reach FOLDER ... --text FILE`.

One token of a text is replaced by another one of the text, and the next-token distribution after
its last token is compared: half the sum of the absolute differences, averaged over windows. A model
whose influence is 0 at a distance cannot use what stands there.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import zoo
from zoo.inference.score import reader

DISTANCES = (1, 2, 4, 8, 16, 32, 64, 96, 120)


@partial(jax.jit, static_argnums=0)
def distribution(model, params, tokens_BL):
    """Return the next-token distribution after the last token: p_BV."""
    logits = model.apply({"params": params}, tokens_BL)
    logits_BLV = logits[0] if isinstance(logits, tuple) else logits
    return jax.nn.softmax(logits_BLV[:, -1])


def influence(loaded: zoo.Loaded, ids: np.ndarray, length: int, windows: int) -> list[float]:
    """Return the mean change of the distribution for each of DISTANCES."""
    draw = np.random.default_rng(0)
    starts = draw.integers(0, len(ids) - length, windows)
    tokens_BL = np.stack([ids[start : start + length] for start in starts])
    before_BV = distribution(loaded.model, loaded.params, jnp.asarray(tokens_BL))
    changes = []
    for distance in DISTANCES:
        changed_BL = tokens_BL.copy()
        changed_BL[:, length - distance] = ids[draw.integers(0, len(ids), windows)]
        after_BV = distribution(loaded.model, loaded.params, jnp.asarray(changed_BL))
        changes.append(float(jnp.abs(after_BV - before_BV).sum(-1).mean() / 2))
    return changes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--text", required=True)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--windows", type=int, default=64)
    arguments = parser.parse_args()
    print("distance", *DISTANCES, sep="\t")
    for folder in arguments.folders:
        loaded = zoo.load(folder)
        with open(arguments.text, encoding="utf-8") as file:
            ids = np.array(reader(loaded)(file.read(100_000)).targets)
        changes = influence(loaded, ids, arguments.length, arguments.windows)
        print(folder, *(f"{change:.4f}" for change in changes), sep="\t")


if __name__ == "__main__":
    main()
