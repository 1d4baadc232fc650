"""A stack of blocks gives the same results as a loop, and with recomputation."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest

from tests import tiny
from tests.wide import draw
from zoo.layers import stack
from zoo.layers.execution import Execution, run_as

TOLERANCE = 1e-5
# Blocks alike, blocks that share parameters, alternate, have inputs of their own, or differ.
MODELS = ("gpt2", "albert", "gpt3", "xlnet", "t5", "wavenet")
AS_LOOP = Execution(platform="tpu")


def deep(name):
    """Return a model of four blocks, with wide random parameters."""
    row = tiny.TABLE[name]
    depths = {field: 4 for field in vars(row.config) if field.endswith("num_layers")}
    depths |= {"num_decoder_layers": 4} if "num_decoder_layers" in vars(row.config) else {}
    model = row.architecture.Model(dataclasses.replace(row.config, **depths))
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), tiny.TOKENS, **row.more)["params"]
    )
    wide = lambda x: 0.2 * draw(*x.shape, seed=x.size)
    return model, jax.tree.map(wide, shapes), row.more


def loss_and_gradient(name, execution):
    model, params, more = deep(name)

    def loss(params):
        with run_as(execution):
            output = model.apply({"params": params}, tiny.TOKENS, **more)
        return sum(jnp.sin(x).sum() for x in jax.tree.leaves(output))

    return jax.jit(jax.value_and_grad(loss))(params)


def loops(name, execution) -> list[int]:
    """Return the lengths of the loops over blocks in the program of a model."""
    model, params, more = deep(name)
    with run_as(execution):
        program = jax.make_jaxpr(lambda p: model.apply({"params": p}, tiny.TOKENS, **more))(params)
    return [
        equation.params["length"] for equation in program.eqns if equation.primitive.name == "scan"
    ]


@pytest.fixture(scope="module")
def expected():
    return {name: loss_and_gradient(name, Execution("cpu")) for name in MODELS}


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_a_loop_and_recomputation_change_no_result(name, remat, expected):
    actual = loss_and_gradient(name, Execution("tpu", remat))
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected[name]), strict=True):
        # Some gradients, such as those of the biases of keys, are zero but for rounding.
        assert jnp.abs(one - other).max() <= TOLERANCE * jnp.maximum(jnp.abs(other).max(), 1)


def test_deep_stacks_are_loops_and_shallow_ones_are_not():
    assert loops("gpt2", AS_LOOP) == [4]
    assert loops("albert", AS_LOOP) == [4]
    assert loops("gpt3", AS_LOOP) == [2]  # of a dense and a banded block
    assert loops("gpt2", Execution("cpu")) == []


def test_recomputation_keeps_less():
    from train.planning.programs import peak_bytes

    def peak(remat):
        model, params, more = deep("gpt2")

        def loss(params):
            with run_as(Execution("cpu", remat)):
                return model.apply({"params": params}, tiny.TOKENS, **more).sum()

        return peak_bytes(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)

    assert peak("full") <= peak("dots") < peak("none")


def test_dropout_differs_between_the_blocks_of_a_loop():
    class Drop(stack.nn.Module):
        def __call__(self, x, *, train=False):
            from zoo.layers.dropout import keep

            return x + keep(self.make_rng("dropout"), 0.5, x.shape)

    class Trunk(stack.nn.Module):
        def setup(self):
            self.blocks = [Drop() for _ in range(4)]

        def __call__(self, x):
            with run_as(AS_LOOP):
                return stack.run(self.blocks, x, [()] * 4, (), train=True)

    states = Trunk().apply({}, jnp.zeros(64), rngs={"dropout": jax.random.key(0)})
    masks = [after - before for before, after in itertools.pairwise(states)]
    agreement = [(one == other).mean() for one in masks for other in masks if one is not other]
    assert max(agreement) < 0.8
