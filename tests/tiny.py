"""A table with a tiny config and inputs for every model."""

import functools
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zoo.models import (
    albert,
    awd_lstm,
    bahdanau,
    bert,
    bytenet,
    bytenet_translator,
    distilbert,
    electra,
    fixed_window,
    flair,
    gpt,
    gpt2,
    gpt3,
    gpt_neo,
    luong,
    rnn,
    roberta,
    seq2seq,
    t5,
    t5_v1_1,
    transformer,
    wavenet,
    xlnet,
)

V, B, L = 61, 3, 12


class Tiny(NamedTuple):
    """A model small enough for every test, and its inputs.

    `sees` is what a position attends to: "all" tokens, the "past", or those of another sequence,
    the "source". `more` are the inputs of every call besides the tokens; `inputs` those of
    `method`, the method that training calls.
    """

    architecture: ModuleType
    config: Any
    sees: str
    more: dict
    inputs: tuple
    method: Any = "unprojected"

    @property
    def model(self):
        return self.architecture.Model(self.config)


def _draw():
    draw = np.random.default_rng(0)
    tokens_BL = draw.integers(0, V, (B, L)).astype(np.int32)
    segments_BL = (np.arange(L) >= np.array([[5], [7], [3]])).astype(np.int32)
    document_ids_BL = (np.arange(L) < np.array([[12], [9], [6]])).astype(np.int32)
    predictions_BP = np.array([[1, 11, 4], [0, 8, 3], [5, 2, 1]], np.int32)
    blocked_BLL = (draw.random((B, L, L)) < 0.4) | np.eye(L, dtype=bool)
    return tokens_BL, segments_BL, document_ids_BL, predictions_BP, blocked_BLL


def _guess_and_detect(model, tokens_BL, segments_BL, document_ids_BL, predictions_BP, **options):
    """Run both networks of ELECTRA, as training does."""
    inputs = tokens_BL, segments_BL, document_ids_BL
    return model.generator_unprojected(*inputs, predictions_BP, **options), model.detect(
        *inputs, **options
    )


def _both_directions(model, tokens_BL, document_ids_BL, **options):
    """Run both language models of Flair, as training does."""
    backward = tokens_BL[:, ::-1], document_ids_BL[:, ::-1]
    return model.directions(tokens_BL, document_ids_BL, *backward, **options)[0]


TOKENS, SEGMENTS, DOCUMENTS, PREDICTIONS, BLOCKED = _draw()
TARGETS = np.pad(TOKENS[:, 2:9], ((0, 0), (1, 0)))  # the input of a decoder: 0, then its own tokens
TABLE = {
    "fixed_window": Tiny(
        fixed_window,
        fixed_window.Config(
            vocab_size=V, width=24, dropout=0.1, embed_width=20, window=4, features="direct"
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "rnn": Tiny(
        rnn,
        rnn.Config(
            vocab_size=V, max_length=1 << 30, num_layers=2, width=24, dropout=0.1, embed_width=20
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "flair": Tiny(
        flair,
        flair.Config(
            vocab_size=V, max_length=1 << 30, num_layers=2, width=24, dropout=0.1, embed_width=10
        ),
        "past",  # as far as the logits of the forward language model go
        {},
        (TOKENS, DOCUMENTS),
        _both_directions,
    ),
    "awd_lstm": Tiny(
        awd_lstm,
        awd_lstm.Config(
            vocab_size=V,
            num_layers=3,
            width=20,
            cell_width=24,
            dropout=0.1,
            embedding_dropout=0.1,
            input_dropout=0.1,
            hidden_dropout=0.1,
            weight_dropout=0.1,
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "seq2seq": Tiny(
        seq2seq,
        seq2seq.Config(
            vocab_size=V, max_length=1 << 30, num_layers=2, width=24, dropout=0.1, embed_width=20
        ),
        "source",
        {"targets_BT": TARGETS},
        (TOKENS, TARGETS, DOCUMENTS),
    ),
    "bahdanau": Tiny(
        bahdanau,
        bahdanau.Config(
            vocab_size=V,
            max_length=1 << 30,
            num_layers=1,
            width=24,
            dropout=0.1,
            embed_width=20,
            readout_width=14,
        ),
        "source",
        {"targets_BT": TARGETS},
        (TOKENS, TARGETS, DOCUMENTS),
    ),
    "luong": Tiny(
        luong,
        luong.Config(
            vocab_size=V,
            max_length=1 << 30,
            num_layers=2,
            width=24,
            dropout=0.1,
            embed_width=20,
            score="additive",
        ),
        "source",
        {"targets_BT": TARGETS},
        (TOKENS, TARGETS, DOCUMENTS),
    ),
    "wavenet": Tiny(
        wavenet,
        wavenet.Config(
            vocab_size=V,
            num_layers=4,
            width=24,
            dropout=0.1,
            gate_width=20,
            skip_width=28,
            max_dilation=4,
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "bytenet": Tiny(
        bytenet,
        bytenet.Config(vocab_size=V, num_layers=3, width=24, dropout=0.1, max_dilation=2),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "bytenet_translator": Tiny(
        bytenet_translator,
        bytenet_translator.Config(
            vocab_size=V,
            num_layers=3,
            width=24,
            dropout=0.1,
            num_decoder_layers=2,
            max_dilation=2,
        ),
        "source",
        {"targets_BT": TARGETS},
        (TOKENS, TARGETS, DOCUMENTS),
    ),
    "transformer": Tiny(
        transformer,
        transformer.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
            num_decoder_layers=1,
            start=0,
            activation="swish",
        ),
        "source",
        {"targets_BT": TARGETS},
        (TOKENS, TARGETS, DOCUMENTS),
    ),
    "gpt": Tiny(
        gpt,
        gpt.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=96,
            head_width=8,
            dropout=0.1,
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "gpt2": Tiny(
        gpt2,
        gpt2.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "gpt3": Tiny(
        gpt3,
        gpt3.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
            window=4,
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "gpt_neo": Tiny(
        gpt_neo,
        gpt_neo.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
            window=4,
        ),
        "past",
        {},
        (TOKENS, DOCUMENTS),
    ),
    "bert": Tiny(
        bert,
        bert.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
            num_segments=2,
        ),
        "all",
        {"segments_BL": SEGMENTS},
        (TOKENS, SEGMENTS, DOCUMENTS, PREDICTIONS),
    ),
    "xlnet": Tiny(
        xlnet,
        xlnet.Config(
            vocab_size=V,
            max_length=512,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
        ),  # published sizes have no maximum length
        "all",
        {"segments_BL": SEGMENTS},
        (TOKENS, SEGMENTS, DOCUMENTS, BLOCKED, PREDICTIONS),
    ),
    "roberta": Tiny(
        roberta,
        roberta.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
        ),
        "all",
        {},
        (TOKENS, DOCUMENTS, PREDICTIONS),
    ),
    "distilbert": Tiny(
        distilbert,
        distilbert.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
        ),
        "all",
        {},
        (TOKENS, DOCUMENTS, PREDICTIONS),
    ),
    "albert": Tiny(
        albert,
        albert.Config(
            vocab_size=V,
            max_length=32,
            num_layers=4,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
            num_segments=2,
            embed_width=10,
            num_groups=2,
        ),
        "all",
        {"segments_BL": SEGMENTS},
        (TOKENS, SEGMENTS, DOCUMENTS, PREDICTIONS),
    ),
    "electra": Tiny(
        electra,
        electra.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.1,
            embed_width=10,
            generator_layers=3,
            generator_heads=2,
            generator_width=12,
            generator_mlp_width=20,
        ),
        "all",
        {"segments_BL": SEGMENTS},
        (TOKENS, SEGMENTS, DOCUMENTS, PREDICTIONS),
        _guess_and_detect,
    ),
    "t5": Tiny(
        t5,
        t5.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=6,
            width=24,
            mlp_width=40,
            head_width=4,
            dropout=0.1,
            num_decoder_layers=1,
        ),
        "source",
        {"targets_BT": TARGETS},
        (TOKENS, TARGETS, DOCUMENTS),
    ),
    "t5_v1_1": Tiny(
        t5_v1_1,
        t5_v1_1.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=6,
            width=24,
            mlp_width=40,
            head_width=4,
            dropout=0.1,
            num_decoder_layers=1,
        ),
        "source",
        {"targets_BT": TARGETS},
        (TOKENS, TARGETS, DOCUMENTS),
    ),
}


@functools.cache
def wide(model, seed: int = 0) -> dict:
    """Return parameters large enough for a small error to show: std 0.2, norm scales about 1.

    Drawn once for all tests: copy them before you write into them.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    draw = np.random.default_rng(seed)

    def leaf(path, abstract_leaf):
        mean = path[-1].key == "scale"
        return jnp.asarray(mean + draw.normal(0, 0.2, abstract_leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


@functools.cache
def compiled(model, train: bool = False):
    """Return a jitted function of (params, tokens_BL, other inputs, rngs), shared by all tests."""

    def apply(params, tokens_BL, inputs, rngs):
        return logits(model.apply({"params": params}, tokens_BL, **inputs, rngs=rngs, train=train))

    return jax.jit(apply)


def logits(output):
    """Return the logits, whatever else a model returns."""
    return output[0] if isinstance(output, tuple) else output


def loss_like(model, params, row: Tiny, **options):
    """Return a number that depends on everything that the method for training returns."""
    out = model.apply({"params": params}, *row.inputs, method=row.method, **options)
    arrays = [getattr(x, "logits", lambda x=x: x)() for x in _parts(out)]
    return sum(jnp.sin(x).mean() for x in arrays)


def _parts(out):
    """Return UnprojectedLogits and the arrays of other heads, but no states for a memory."""
    if hasattr(out, "logits"):
        return [out]
    return [x for x in out if hasattr(x, "logits") or hasattr(x, "shape")]
