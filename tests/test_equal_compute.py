"""The two changed models of tests/equal_compute.py change what they say, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.data.tiny_corpus import numbered, tokenizer
from tests.equal_compute import OneMask, OrderedBert, StaticRoberta
from train.objectives.masked import MaskedLanguageModeling
from train.recipes import recipe


def test_one_mask_depends_on_the_row_alone():
    new = recipe("roberta-tiny").objective(tokenizer("wordpiece"))
    static = StaticRoberta(**vars(recipe("roberta-tiny"))).objective(tokenizer("wordpiece"))
    assert (type(new), type(static)) == (MaskedLanguageModeling, OneMask)
    assert vars(new) == vars(static)
    rows = np.random.default_rng(0).integers(10, 600, (2, 128))

    def masked(objective, key, row):
        example = {"tokens": jnp.asarray(rows[row], jnp.int32), "mask": jnp.ones(128, bool)}
        return np.asarray(objective.corrupt(jax.random.key(key), example)["tokens"])

    assert (masked(static, 0, 0) == masked(static, 1, 0)).all()
    assert (masked(new, 0, 0) != masked(new, 1, 0)).any()
    changed = [masked(static, 0, row) != rows[row] for row in (0, 1)]
    assert (changed[0] != changed[1]).any()


def test_the_order_of_segments_takes_the_place_of_the_next_sentence():
    ordered = OrderedBert(**vars(recipe("bert-tiny"))).batches(tokenizer("wordpiece"))
    batch = ordered.train(numbered(), 64, seed=0)(0)
    in_order = []
    for tokens, segments in zip(batch["tokens"], batch["segments"], strict=True):
        is_text = tokens >= 10  # a token of this corpus is its position plus 10
        a, b = (tokens[is_text & (segments == one)] for one in (0, 1))
        in_order.append(a.max() < b.min())
    swapped = batch["next"] == 1
    assert all(np.array(in_order)[~swapped])
    assert not all(np.array(in_order)[swapped])
    assert 10 < swapped.sum() < 54
