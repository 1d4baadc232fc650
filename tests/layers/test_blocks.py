"""Running the blocks of a trunk: hidden states, inputs per block, and caches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests import tiny
from tests.wide import draw, relative
from zoo.layers.blocks import PreNormBlock, extend_blocks, run_blocks
from zoo.layers.mask import Mask

B, L, D, H, K, N = 2, 5, 6, 2, 3, 2
TOLERANCE = 1e-5


class Scale(nn.Module):
    """A block that multiplies by its own number and adds one that all blocks share."""

    def __call__(self, x, own, shared, *, train: bool = False):
        return x * own + shared


class Trunk(nn.Module):
    """Three of these blocks."""

    def setup(self):
        self.blocks = [Scale() for _ in range(3)]

    def __call__(self, x, shared):
        return run_blocks(self, self.blocks, x, shared, per_block=(2, 3, 5))


def test_every_block_gets_its_own_input_and_the_shared_ones():
    states, sown = Trunk().apply({}, 1, 10, mutable="intermediates")
    assert states == (1, 12, 46, 240)
    assert sown["intermediates"]["hidden_states"] == states
    assert Trunk().apply({}, 1, 10) == states


STATES = {  # what is sown, and how many arrays: the input, then the output of each block
    "bert": {"hidden_states": 3},
    "roberta": {"hidden_states": 3},
    "distilbert": {"hidden_states": 3},
    "albert": {"hidden_states": 5},  # two blocks, called twice each
    "electra": {"hidden_states": 3},
    "gpt2": {"hidden_states": 3},
    "xlnet": {"hidden_states": 3},
    "transformer": {"encoder_hidden_states": 3, "decoder_hidden_states": 2},
    "t5": {"encoder_hidden_states": 3, "decoder_hidden_states": 2},
}


@pytest.mark.parametrize("name", STATES)
def test_the_hidden_states_of_every_layer_are_returned(name):
    row = next(row for key, row in tiny.TABLE.items() if row.architecture.__name__.endswith(name))
    run = lambda params: row.model.apply(
        {"params": params}, tiny.TOKENS, mutable=["intermediates"], **row.more
    )
    _, state = jax.eval_shape(run, tiny.wide(row.model))
    sown = state["intermediates"]
    sown = sown.get("discriminator", sown.get("trunk"))
    hidden_states = {key: states for key, states in sown.items() if key.endswith("hidden_states")}
    assert {key: len(states) for key, states in hidden_states.items()} == STATES[name]
    for states in hidden_states.values():
        widths = {array.shape[-1] for array in jax.tree.leaves(states)}
        assert widths == {row.config.width}


class Blocks(nn.Module):
    """A trunk of real blocks, which runs on all tokens at once or token by token."""

    def setup(self):
        sizes, init = (H, K, D, 8, 0.0, jnp.tanh, 1e-5), nn.initializers.normal(0.3)
        self.blocks = [PreNormBlock(*sizes, init, init) for _ in range(N)]

    def __call__(self, x_BLD, mask):
        return run_blocks(self, self.blocks, x_BLD, mask)[-1]

    def extend(self, x_B1D, caches, mask):
        """Run the blocks on one token after cached ones."""
        return extend_blocks(self.blocks, x_B1D, caches, mask)


def test_blocks_run_token_by_token_with_a_cache_as_on_all_tokens_at_once():
    x_BLD, document_ids_BL = draw(B, L, D), jnp.array([[0, 0, 1, 1, 1], [1] * L])
    params = jax.jit(Blocks().init)(jax.random.key(0), x_BLD, Mask.causal())
    all_at_once_BLD = jax.jit(Blocks().apply)(params, x_BLD, Mask.causal(document_ids_BL))
    extend = jax.jit(lambda *inputs: Blocks().apply(params, *inputs, method="extend"))
    caches = ((jnp.zeros((B, H, L, K)),) * 2,) * N
    for position in range(L):
        mask = Mask.cached(position, document_ids_BL)
        output_B1D, caches = extend(x_BLD[:, position : position + 1], caches, mask)
        real = np.asarray(document_ids_BL[:, position] > 0)
        assert relative(output_B1D[real, 0], all_at_once_BLD[real, position]) < TOLERANCE
