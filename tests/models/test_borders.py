"""Inputs that a model cannot process are refused, not turned into NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from zoo.models.gpt2 import GPT2
from zoo.params import abstract

HAS_POSITION_TABLE = [
    name
    for name, row in tiny.TABLE.items()
    if "position_embedding" in str(jax.tree_util.tree_structure(abstract(row.model)))
]


@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize("name", HAS_POSITION_TABLE)
def test_a_row_longer_than_the_position_table_is_refused(name, with_documents):
    row = tiny.TABLE[name]
    tokens_BL = np.ones((1, row.config.max_length + 1), np.int32)
    inputs = {"document_ids_BL": tokens_BL} if with_documents else {}
    with pytest.raises(ValueError, match=r"a row of \d+ tokens is longer than the \d+ positions"):
        jax.eval_shape(lambda p: row.model.apply({"params": p}, tokens_BL, **inputs), params(row))


def test_a_row_as_long_as_the_position_table_is_accepted():
    row = tiny.TABLE["gpt2"]
    tokens_BL = np.ones((1, row.config.max_length), np.int32)
    jax.eval_shape(lambda p: row.model.apply({"params": p}, tokens_BL), params(row))


@pytest.mark.parametrize("wrong", [-1, tiny.V])
def test_an_id_outside_the_vocabulary_is_refused_outside_jit_and_nan_under_it(wrong):
    model = GPT2(tiny.TABLE["gpt2"].config)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    tokens_BL = jnp.array([[1, wrong]])
    with pytest.raises(ValueError, match=f"id {wrong} is outside the embedding table of {tiny.V}"):
        model.apply(variables, tokens_BL)
    x_BLD = np.asarray(jax.jit(model.apply)(variables, tokens_BL))
    assert np.isnan(x_BLD[:, 1]).all()


def test_ids_that_are_constants_of_a_compiled_program_are_checked_too():
    model = GPT2(tiny.TABLE["gpt2"].config)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    apply = lambda tokens_BL: jax.jit(lambda variables: model.apply(variables, tokens_BL))(
        variables
    )
    assert np.isfinite(apply(jnp.array([[1, 2]]))).all()
    with pytest.raises(ValueError, match="is outside the embedding table"):
        apply(jnp.array([[1, tiny.V]]))


def params(row):
    return abstract(row.model)
