"""The contract of a published format, and the rows that many formats share.

A weight table maps our parameter paths to published names, one row per parameter; `{}` stands for
the number of the layer. A row is a name, or a name and a layout. A layout is "ours -> theirs" in
the letters of the axes: "DHK -> (HK)D" is a torch.nn.Linear of width D into H heads of K, stored
outputs first. A name that ends in "[1/3]" means the first of three equal slices of the last axis.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flax import linen as nn

from zoo import tokenizers
from zoo.layers.feed_forward import ACTIVATIONS

Row = str | tuple[str, str]
# The published fields of one of our fields (all are written, the first is read), and the default.
Field = tuple[str | tuple[str, ...], Any]
Tokenizer = tokenizers.Tokenizer | tokenizers.Sides

# The published names of an activation, where they differ from ours; the first is the one we write.
PUBLISHED_ACTIVATIONS = {"gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")}


def nested(rows: Mapping[str, Row], ours: str, theirs: str) -> dict[str, Row]:
    """Return rows of a weight table, such as those of one layer, under a path and a name."""
    return {
        f"{ours}/{path}": f"{theirs}.{row}"
        if isinstance(row, str)
        else (f"{theirs}.{row[0]}", row[1])
        for path, row in rows.items()
    }


def classifiers(
    name: str, one_label: type[nn.Module], many_labels: type[nn.Module]
) -> dict[str, type[nn.Module]]:
    """Return our two classes of a published classifier, for one label and for many per text."""
    return {name: one_label, f"{name}[multi_label_classification]": many_labels}


LINEAR: dict[str, Row] = {"kernel": ("weight", "DE -> ED"), "bias": "bias"}  # a torch.nn.Linear
NORM: dict[str, Row] = {"scale": "weight", "bias": "bias"}  # a torch.nn.LayerNorm
HEADS_IN: dict[str, Row] = {"kernel": ("weight", "DHK -> (HK)D"), "bias": ("bias", "HK -> (HK)")}
HEADS_OUT: dict[str, Row] = {"kernel": ("weight", "HKD -> D(HK)"), "bias": "bias"}

# The heads of taggers and question answering, and of most classifiers.
TASK_HEADS: dict[str, Row] = {
    **nested(LINEAR, "classes", "classifier"),
    **nested(LINEAR, "span", "qa_outputs"),
}


@dataclass(frozen=True, kw_only=True)
class Format:
    """The names and layout of one architecture in Hugging Face folders.

    Attributes:
      model_type: The architecture in config.json.
      config_class: Our Config.
      classes: Published class -> ours. The first is the default of a config.json that names none.
        A name that ends in "[X]" is for folders whose "problem_type" is X.
      fields: Our config field -> published fields.
      constants: Published fields that fix the mathematics. A folder with other values is rejected.
      unpublished: Our config fields that a folder does not record.
      weights: The weight table.
      prefix: The prefix of tensor names, absent in the folder of a bare trunk.
      tied: Name of a copy -> name of the original; they must be equal.
      ignored: Patterns of names that are not weights (buffers of old versions).
      tokenizer: The fields of tokenizer_config.json.
    """

    model_type: str
    config_class: type
    classes: Mapping[str, type[nn.Module]]
    fields: Mapping[str, Field]
    weights: Mapping[str, Row]
    constants: Mapping[str, Any] = field(default_factory=dict)
    unpublished: tuple[str, ...] = ()
    prefix: str = ""
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    tokenizer: Mapping[str, Any] = field(default_factory=dict)

    def reads(self, published: Mapping[str, Any]) -> bool:
        """Return whether a config.json of this model_type is of this format."""
        return True

    def class_of(self, published: Mapping[str, Any]) -> type[nn.Module]:
        """Return our class for a config.json."""
        name = next(iter(published.get("architectures") or ()), "")
        default = next(iter(self.classes.values()))
        problem = f"{name}[{published.get('problem_type')}]"
        return self.classes.get(problem, self.classes.get(name, default))

    def published_class(self, cls: type[nn.Module]) -> tuple[str, str | None]:
        """Return the published name of a class of ours, and its "problem_type"."""
        name = next(name for name, ours in self.classes.items() if ours is cls)
        name, _, problem = name.removesuffix("]").partition("[")
        return name, problem or None

    def to_config(self, published: Mapping[str, Any]) -> Any:
        """Return our Config for a config.json; the caller sets the labels."""
        values: dict[str, Any] = {}
        for ours, (theirs, default) in self.fields.items():
            name = theirs if isinstance(theirs, str) else theirs[0]
            value = published.get(name, default)
            values[ours] = _activation(value) if ours == "activation" else value
        names = {f.name for f in dataclasses.fields(self.config_class)}
        if "head_width" in names and "head_width" not in values:
            values["head_width"] = values["width"] // values["num_heads"]
        return self.config_class(**values)

    def from_config(self, config: Any) -> dict[str, Any]:
        """Return the fields of config.json; raise ValueError if it cannot express the config."""
        published = self.describe(config)
        back = self.to_config(published)
        lost = [
            f"{f.name} = {getattr(config, f.name)!r}"
            for f in dataclasses.fields(config)
            if f.name not in (*self.unpublished, "labels", "null_threshold")
            and getattr(config, f.name) != getattr(back, f.name)
        ]
        derived = "head_width" not in self.fields and hasattr(config, "num_heads")
        if derived and not lost and config.width % config.num_heads:
            # To transformers, the width of a head would be a fraction.
            lost = [f"width = {config.width} with num_heads = {config.num_heads}"]
        if lost:
            raise ValueError(
                f"the Hugging Face format of {self.model_type} cannot express {', '.join(lost)}"
            )
        return published

    def describe(self, config: Any) -> dict[str, Any]:
        """Return the fields of config.json without a check."""
        published = {"model_type": self.model_type, **self.constants}
        for ours, (theirs, _) in self.fields.items():
            value = getattr(config, ours)
            value = PUBLISHED_ACTIVATIONS.get(value, (value,))[0] if ours == "activation" else value
            published |= dict.fromkeys((theirs,) if isinstance(theirs, str) else theirs, value)
        return published

    def special_ids(self, config: Any, tokenizer: Tokenizer | None) -> dict[str, int]:
        """Return the ids in config.json that depend on the vocabulary."""
        ids: dict[str, int] = {}
        if tokenizer is None:
            return ids
        for name in ("bos", "eos", "pad"):
            number = tokenizer.token_to_id(self.tokenizer.get(f"{name}_token", ""))
            if number is not None:
                ids[f"{name}_token_id"] = number
        return ids

    def buffers(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors that transformers stores besides the weights."""
        return {}


def _activation(theirs: str) -> str:
    names = PUBLISHED_ACTIVATIONS.items()
    name = next((ours for ours, published in names if theirs in published), theirs)
    if name not in ACTIVATIONS:
        supported = ", ".join(ACTIVATIONS)
        raise ValueError(f"config.json has the activation {theirs!r}; zoo supports {supported}")
    return name
