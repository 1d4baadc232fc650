"""Hugging Face folders, read and written without PyTorch."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from zoo.formats.huggingface import (
    albert,
    bert,
    distilbert,
    electra,
    gpt,
    gpt2,
    gpt_neo,
    marian,
    resnet,
    roberta,
    t5,
    xlnet,
)
from zoo.formats.huggingface.folder import (
    config_file,
    new_head,
    published_labels,
    read,
    read_available,
    read_config,
    unread,
    write,
)
from zoo.formats.huggingface.format import Format

__all__ = [
    "FORMATS",
    "Format",
    "config_file",
    "find",
    "find_class",
    "new_head",
    "published_labels",
    "read",
    "read_available",
    "read_config",
    "unread",
    "write",
]

FORMATS = (
    bert.FORMAT,
    gpt.FORMAT,
    gpt2.FORMAT,
    gpt_neo.FORMAT,
    xlnet.FORMAT,
    roberta.FORMAT,
    distilbert.FORMAT,
    albert.FORMAT,
    electra.FORMAT,
    marian.FORMAT,
    t5.FORMAT,
    t5.FORMAT_V1_1,
    t5.FORMAT_MT5,
    resnet.FORMAT,
)
# Zoo 0.1 exported its recurrent models, although transformers cannot load them.
WITHDRAWN = ("rnn", "seq2seq", "bahdanau", "luong")


def find(published: Mapping[str, Any], architecture: str | None = None) -> Format:
    """Return the format of a config.json.

    Args:
      published: The fields of config.json.
      architecture: The architecture or model_type of a config.json without a model_type.

    Raises:
      ValueError: If the model_type is not supported, or is another one than that given.
    """
    model_type = published.get("model_type")
    if architecture is not None:
        named = [f for f in FORMATS if architecture in (f.model_type, f.architecture)]
        if not named:
            known = ", ".join(sorted({format.architecture for format in FORMATS}))
            raise ValueError(f"unknown architecture {architecture!r}: use one of {known}")
        if model_type not in (None, *(format.model_type for format in named)):
            raise ValueError(f"config.json has model_type {model_type!r}, not {architecture}")
        model_type = named[0].model_type if model_type is None else model_type
    if model_type is None:
        raise ValueError("config.json has no model_type: name it, such as --architecture bert")
    for format in FORMATS:
        if format.model_type == model_type and format.reads(published):
            return format
    if model_type in WITHDRAWN:
        raise ValueError(
            f"{model_type!r} has no Hugging Face format: load the model folder that it was "
            "exported from"
        )
    supported = ", ".join(sorted({format.model_type for format in FORMATS}))
    raise ValueError(f"config.json has model_type {model_type!r}; zoo supports {supported}")


def find_class(cls: type[nn.Module]) -> Format | None:
    """Return the format in which a model class is published, or None."""
    return next((format for format in FORMATS if cls in format.classes.values()), None)
