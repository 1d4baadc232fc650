"""ELMo (Peters et al. 2018), "Deep contextualized word representations".

https://arxiv.org/abs/1802.05365
Two language models, one that reads a text forward and one that reads it backward, give the vectors
of a word in its context: the hidden states of all layers, both directions side by side. New against
rnn.py: words are read as bytes, by convolutions and highway layers (Jozefowicz et al. 2016, Kim et
al. 2015), so that every word has a vector; LSTMs with projections, clipped, and a residual
connection; both directions share the convolutions and the softmax.

Departures: the paper leaves out the clipping at 3, the order of gates and the dropout, which are
those of the released code. As there, the gate of a highway layer opens the transform.

B batch  L length  C characters of a word  N words, B * L  I width of a character
O number of filters  D width of both directions  E of one  F of an LSTM cell  G gates
V vocabulary
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import heads, recurrent, taggers
from zoo.layers.convolution import Convolution, uniform
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense, affine, product
from zoo.layers.recurrent import State, States, document_marks, keep_at_padding, reset_at_start
from zoo.layers.taggers import ScalarMix, StackedTagger
from zoo.tokenizers import word_bytes


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a bidirectional language model; the defaults are the paper's.

    `filters` has the width and the number of the filters of each convolution. `max_length` is
    required by the trainer; the model itself works at any length.
    """

    vocab_size: int = 793471
    max_length: int = 1 << 30
    num_layers: int = 2
    width: int = 1024  # both directions together
    dropout: float = 0.1
    embed_width: int = 16
    cell_width: int = 4096
    num_highway: int = 2
    filters: tuple[tuple[int, int], ...] = (
        *((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024)),
    )
    labels: tuple[str, ...] = heads.LABELS
    tagger_width: int = 256
    tagger_dropout: float = 0.5
    stacked: tuple[int, int] = (0, 0)  # the number and the width of word vectors in a tagger


Tiny = partial(Config, vocab_size=33280, width=256, cell_width=256, num_highway=1)
SIZES = {
    "elmo-tiny": Tiny(filters=((1, 16), (2, 32), (3, 64), (4, 80))),  # 5,589,536
    "elmo-small": Config(width=256, cell_width=1024, num_highway=1),  # 115,951,071
    "elmo-medium": Config(width=512, cell_width=2048, num_highway=1),  # 231,949,791
    "elmo-original": Config(),  # 500,651,487
}

CLIP = 3.0  # of cells and of projected outputs
FORGET_BIAS = 1.0  # added when the cell runs; the parameter itself starts at 0
CARRY_BIAS = -2.0  # highway layers begin as nearly the identity


def glorot(inputs: int, outputs: int) -> nn.initializers.Initializer:
    """Return Glorot's uniform initializer of a matrix that is stored with more axes."""
    return uniform((6 / (inputs + outputs)) ** 0.5)


def zeros(width: int, cell_width: int, batch: int) -> State:
    """Return the state of a layer before the first word."""
    return jnp.zeros((batch, width)), jnp.zeros((batch, cell_width))


class Highway(nn.Module):
    """A highway layer (Srivastava et al. 2015): x_NO -> x_NO."""

    @nn.compact
    def __call__(self, x_NO: jax.Array) -> jax.Array:
        O = x_NO.shape[-1]
        init = nn.initializers.normal(O**-0.5)
        kernel_OO = self.param("carry_kernel", init, (O, O))
        bias_O = self.param("carry_bias", nn.initializers.constant(CARRY_BIAS), (O,))
        carry_NO = nn.sigmoid(affine(x_NO, kernel_OO) + bias_O)
        transformed_NO = nn.relu(Dense(O, init, name="transform")(x_NO))
        return carry_NO * transformed_NO + (1 - carry_NO) * x_NO


class CharacterEncoder(nn.Module):
    """The vector of a word, from its characters: characters_BLC -> x_BLE."""

    embed_width: int
    filters: tuple[tuple[int, int], ...]
    num_highway: int
    width: int

    def setup(self):
        num_filters = sum(count for _, count in self.filters)
        init = nn.initializers.normal(num_filters**-0.5)
        self.embedding = Embedding(word_bytes.NUM_IDS, self.embed_width, uniform(1.0))
        self.convolutions = [Convolution(*filter) for filter in self.filters]
        self.highways = [Highway() for _ in range(self.num_highway)]
        self.projection = Dense(self.width, init)

    def __call__(self, characters_BLC: jax.Array) -> jax.Array:
        B, L, C = characters_BLC.shape
        x_NCI = self.embedding(characters_BLC.reshape(B * L, C))
        x_NO = jnp.concatenate([convolution(x_NCI) for convolution in self.convolutions], -1)
        for highway in self.highways:
            x_NO = highway(x_NO)
        return self.projection(x_NO).reshape(B, L, self.width)


class ProjectedLSTM(nn.Module):
    """An LSTM with a projected output (Sak et al. 2014), clipped: x_BLE -> x_BLE.

    The state is the output and the cell. The cell is clipped, and the output after its projection.
    """

    width: int
    cell_width: int

    def setup(self):
        E, G, F = self.width, 4, self.cell_width
        init = glorot(2 * E, G * F)  # one matrix in the paper, of the input and the state
        self.input_EGF = self.param("input_kernel", init, (E, G, F))
        self.recurrent_EGF = self.param("recurrent_kernel", init, (E, G, F))
        self.bias_GF = self.param("bias", nn.initializers.zeros, (G, F))
        self.projection_FE = self.param("projection_kernel", glorot(F, E), (F, E))

    def __call__(
        self, x_BLE: jax.Array, document_ids_BL: jax.Array | None, state: State | None
    ) -> tuple[jax.Array, State]:
        """Return the output at every step, and the state after the last one."""
        (E, G, F), (B, L, _) = self.input_EGF.shape, x_BLE.shape
        a_LBD = affine(x_BLE.swapaxes(0, 1), self.input_EGF.reshape(E, G * F))
        a_LBGF = a_LBD.reshape(L, B, G, F) + self.bias_GF
        marks = None if document_ids_BL is None else document_marks(document_ids_BL.T)
        state = zeros(self.width, self.cell_width, B) if state is None else state

        def step(state, inputs):
            a_BGF, mark = inputs
            before = reset_at_start(state, mark)
            after = keep_at_padding(self.advance(a_BGF, *before), before, mark)
            return after, after[0]

        last, x_LBE = jax.lax.scan(step, state, (a_LBGF, marks))
        return x_LBE.swapaxes(0, 1), last

    def advance(self, a_BGF: jax.Array, h_BE: jax.Array, c_BF: jax.Array) -> State:
        """Return the next state, from the projected input and the state before."""
        gates_BGF = a_BGF + product("BE,EGF->BGF", h_BE, self.recurrent_EGF)
        i_BF, j_BF, f_BF, o_BF = jnp.moveaxis(gates_BGF, 1, 0)  # the released order
        c_BF = nn.sigmoid(f_BF + FORGET_BIAS) * c_BF + nn.sigmoid(i_BF) * jnp.tanh(j_BF)
        c_BF = jnp.clip(c_BF, -CLIP, CLIP)
        h_BE = product("BF,FE->BE", nn.sigmoid(o_BF) * jnp.tanh(c_BF), self.projection_FE)
        return jnp.clip(h_BE, -CLIP, CLIP), c_BF


class Direction(nn.Module):
    """The layers of one direction; all but the first add their input to their output."""

    num_layers: int
    width: int
    cell_width: int
    dropout: float

    def setup(self):
        layers = range(self.num_layers)
        self.layers = [ProjectedLSTM(self.width, self.cell_width) for _ in layers]
        self.dropouts = [Dropout(self.dropout) for _ in layers]

    def __call__(
        self,
        x_BLE: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[list[jax.Array], States]:
        """Return the output of each layer, x_BLE, and the states after the last step."""
        before = (None,) * self.num_layers if states is None else states
        outputs, after = [], []
        for number, (layer, state) in enumerate(zip(self.layers, before, strict=True)):
            x_BLE = self.dropouts[number](x_BLE, train=train)
            y_BLE, state = layer(x_BLE, document_ids_BL, state)
            x_BLE = x_BLE + y_BLE if number else y_BLE
            outputs.append(x_BLE)
            after.append(state)
        return outputs, tuple(after)


class ELMo(nn.Module):
    """The trunk, without a softmax: characters_BLC -> x_BLD, the top layer of both directions.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        if c.width % 2:
            raise ValueError(f"the width of both directions must be even, not {c.width}")
        direction = (c.num_layers, c.width // 2, c.cell_width, c.dropout)
        self.characters = CharacterEncoder(c.embed_width, c.filters, c.num_highway, c.width // 2)
        self.forward = Direction(*direction)
        self.backward = Direction(*direction)

    def layers(
        self,
        characters_BLC: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, ...]:
        """Return the vectors of all layers, which a task weighs (section 3.2): x_BLD each.

        The first is the vector of the word twice, then come both directions of each layer.
        """
        x_BLE = self.characters(characters_BLC)
        flipped_BL = None if document_ids_BL is None else document_ids_BL[:, ::-1]
        forward, _ = self.forward(x_BLE, document_ids_BL, train=train)
        backward, _ = self.backward(x_BLE[:, ::-1], flipped_BL, train=train)
        pairs = [(x_BLE, x_BLE[:, ::-1]), *zip(forward, backward, strict=True)]
        layers = tuple(jnp.concatenate([left, right[:, ::-1]], -1) for left, right in pairs)
        for x_BLD in layers:
            self.sow("intermediates", "hidden_states", x_BLD)
        return layers

    def __call__(
        self,
        characters_BLC: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        return self.layers(characters_BLC, document_ids_BL, train=train)[-1]

    def read(
        self,
        tokens_BLC: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return x_BLD for a task head; segments are ignored."""
        return self(tokens_BLC, document_ids_BL, train=train)

    @nn.nowrap
    def init(self, rngs: Any, *_: Any, **options: Any) -> Any:
        """Initialize the parameters; the tokens are not used, since no shape depends on them."""
        characters_BLC = jnp.zeros((1, 2, word_bytes.LENGTH), jnp.int32)
        return nn.Module.init(self, rngs, characters_BLC, **options)

    @nn.nowrap
    def spell(self, tokenizer: Any, words: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """Return the characters of a sentence, int32 [W + 2, C], and the position of each word.

        The first and the last row are the marks of a sentence. The tokenizer is not used. Warns if
        words of more than 48 bytes are truncated, as in the released code.
        """
        if long := word_bytes.truncated(words):
            warnings.warn(
                f"{len(long)} words have more than {word_bytes.MOST_BYTES} bytes and are "
                f"truncated, such as {long[0]!r:.60}",
                stacklevel=2,
            )
        return word_bytes.spell_sentence(words), list(range(1, len(words) + 1))


class ELMoTagger(StackedTagger):
    """A tagger on a mix of all layers, whose weights it learns (section 3.2, equation 1)."""

    trunk_class = ELMo

    def setup(self):
        super().setup()
        self.mix = ScalarMix(self.config.num_layers + 1)

    def vectors_of_trunk(
        self, tokens_BLC: jax.Array, document_ids_BL: jax.Array, *, train: bool
    ) -> jax.Array:
        """Return the vectors of all layers, one after another."""
        return jnp.concatenate(self.trunk.layers(tokens_BLC, document_ids_BL, train=train), -1)

    def is_word(self, tokens_BLC: jax.Array, document_ids_BL: jax.Array) -> jax.Array:
        """Return which tokens are words, not the marks of a sentence: bool [B, L]."""
        return (document_ids_BL > 0) & ~word_bytes.is_mark(tokens_BLC)

    def combine(self, x_BLF: jax.Array) -> jax.Array:
        """Return the mix of the layers, then the stacked word vectors."""
        layers = self.config.width * (self.config.num_layers + 1)
        return jnp.concatenate([self.mix(x_BLF[..., :layers]), x_BLF[..., layers:]], -1)

    init = ELMo.init
    spell = ELMo.spell


class ELMoTrunk(heads.Trunk):
    """The trunk alone, as it was published: the top layer of both directions, x_BLD."""

    trunk_class = ELMo

    init = ELMo.init
    spell = ELMo.spell


class Softmax(nn.Module):
    """Next-word head, the same for both directions: x_BLE -> UnprojectedLogits."""

    vocab_size: int
    width: int

    def setup(self):
        init = nn.initializers.normal(self.width**-0.5)
        self.table_VE = self.param("embedding", init, (self.vocab_size, self.width))
        self.bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(self, x_BLE: jax.Array) -> UnprojectedLogits:
        return UnprojectedLogits(x_BLE, self.table_VE, self.bias_V)


class ELMoLM(nn.Module):
    """The trunk with a softmax: a forward and a backward language model."""

    config: Config

    def setup(self):
        self.trunk = ELMo(self.config)
        self.head = Softmax(self.config.vocab_size, self.config.width // 2)
        self.output_dropout = Dropout(self.config.dropout)

    init = ELMo.init
    spell = ELMo.spell

    @nn.nowrap
    def initial_states(self, batch_size: int) -> tuple[States, States]:
        """Return the states of both directions before the first word, which are zeros."""
        c = self.config
        states = (zeros(c.width // 2, c.cell_width, batch_size),) * c.num_layers
        return states, states

    def directions(
        self,
        forward_BLC: jax.Array,
        forward_ids_BL: jax.Array | None,
        backward_BLC: jax.Array,
        backward_ids_BL: jax.Array | None,
        states: tuple[States, States] | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[UnprojectedLogits, UnprojectedLogits], tuple[States, States]]:
        """Return next-word logits of both directions, unprojected, and the states after the last.

        Args:
          forward_BLC: The characters of words in the order of the text.
          forward_ids_BL: The documents of these words.
          backward_BLC: The characters of words in the reversed order, of any part of the text.
          backward_ids_BL: The documents of these words.
          states: Those of both directions after the words before.
          train: Whether dropout is active.
        """
        before = (None, None) if states is None else states
        both = jnp.concatenate([forward_BLC, backward_BLC])
        left_BLE, right_BLE = jnp.split(self.trunk.characters(both), 2)
        forward, left = self.trunk.forward(left_BLE, forward_ids_BL, before[0], train=train)
        backward, right = self.trunk.backward(right_BLE, backward_ids_BL, before[1], train=train)
        outputs = jnp.stack([forward[-1], backward[-1]])
        left_BLE, right_BLE = self.output_dropout(outputs, train=train)
        return (self.head(left_BLE), self.head(right_BLE)), (left, right)

    def __call__(
        self,
        characters_BLC: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Return the logits of the next and of the previous word at every position: logits_BLV."""
        flipped_BL = None if document_ids_BL is None else document_ids_BL[:, ::-1]
        inputs = characters_BLC, document_ids_BL, characters_BLC[:, ::-1], flipped_BL
        (following, previous), _ = self.directions(*inputs, train=train)
        return following.logits(), previous.logits()[:, ::-1]


Model = ELMoLM
MODELS = (ELMoLM, ELMoTrunk)
ELMoCRFTagger = taggers.crf_tagger(ELMoTagger)
TASKS: dict[str, type[nn.Module]] = {"tagging": ELMoTagger, "crf-tagging": ELMoCRFTagger}
GROUPS = (
    r"trunk/characters/|^vectors$",
    r"trunk/(?:forward|backward)/layers_(\d+)/",
    "",
)
AXES = (
    *recurrent.AXES,
    (r"convolutions_\d+/kernel$", (None, None, "tensor")),
    (r"(input|recurrent)_kernel$", ("fsdp", None, "tensor")),
    (r"projection_kernel$", ("tensor", "fsdp")),
    (r"(carry_kernel|kernel)$", ("fsdp", "tensor")),
)
