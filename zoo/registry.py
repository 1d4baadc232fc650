"""Architectures and published sizes by name."""

import difflib

import chex
import jax.numpy as jnp
from flax import linen as nn

from zoo.contracts import Architecture
from zoo.models import (
    albert,
    awd_lstm,
    bahdanau,
    bert,
    bytenet,
    bytenet_translator,
    distilbert,
    electra,
    elmo,
    fasttext,
    fixed_window,
    flair,
    glove,
    gpt,
    gpt2,
    gpt3,
    gpt_neo,
    luong,
    ngram,
    resnet,
    rnn,
    roberta,
    seq2seq,
    t5,
    t5_v1_1,
    transformer,
    wavenet,
    word2vec,
    xlnet,
)

# By the name in model.json.
ARCHITECTURES: dict[str, Architecture] = {
    "ngram": ngram,
    "fixed_window": fixed_window,
    "word2vec": word2vec,
    "glove": glove,
    "fasttext": fasttext,
    "rnn": rnn,
    "awd_lstm": awd_lstm,
    "elmo": elmo,
    "flair": flair,
    "seq2seq": seq2seq,
    "bahdanau": bahdanau,
    "luong": luong,
    "wavenet": wavenet,
    "bytenet": bytenet,
    "bytenet_translator": bytenet_translator,
    "transformer": transformer,
    "bert": bert,
    "gpt": gpt,
    "gpt2": gpt2,
    "gpt3": gpt3,
    "gpt_neo": gpt_neo,
    "xlnet": xlnet,
    "roberta": roberta,
    "distilbert": distilbert,
    "albert": albert,
    "electra": electra,
    "t5": t5,
    "t5_v1_1": t5_v1_1,
    "resnet": resnet,
}


def architectures() -> list[str]:
    """Return the names of all architectures."""
    return list(ARCHITECTURES)


def sizes() -> dict:
    """Return every published size: name -> Config."""
    return {
        name: size
        for architecture in ARCHITECTURES.values()
        for name, size in architecture.SIZES.items()
    }


def create(size: str, key: chex.PRNGKey) -> tuple[nn.Module, dict]:
    """Return a new model of a published size with random weights: (model, params)."""
    for architecture in ARCHITECTURES.values():
        if size in architecture.SIZES:
            model = architecture.Model(architecture.SIZES[size])
            return model, model.init(key, jnp.zeros((1, 8), jnp.int32))["params"]
    matches = difflib.get_close_matches(size, sizes(), n=1)
    raise ValueError(
        f"unknown size {size!r}" + (f"; did you mean {matches[0]!r}?" if matches else "")
    )


def named(name: str) -> Architecture:
    """Return the architecture of a name; raise ValueError with the supported names if unknown."""
    if name not in ARCHITECTURES:
        supported = ", ".join(sorted(ARCHITECTURES))
        raise ValueError(f"unknown architecture {name!r}; zoo supports {supported}")
    return ARCHITECTURES[name]


def classes(architecture: Architecture) -> tuple[type[nn.Module], ...]:
    """Return the models of an architecture, the one that pretraining trains first."""
    return (*architecture.MODELS, *architecture.TASKS.values())


def name_of(model: nn.Module | type[nn.Module]) -> str:
    """Return the name of the architecture of a model or of its class."""
    cls = model if isinstance(model, type) else type(model)
    return next(
        name for name, architecture in ARCHITECTURES.items() if cls in classes(architecture)
    )


def of(model: nn.Module | type[nn.Module]) -> Architecture:
    """Return the architecture of a model or of its class."""
    return ARCHITECTURES[name_of(model)]
