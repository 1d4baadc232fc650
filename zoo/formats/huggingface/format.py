"""The contract of a published format, and the rows that many formats share.

A weight table maps our parameter paths to published names, one row per parameter; `{}` stands for
the number of the layer. A row is a name, or a name and a layout. A layout is "ours -> theirs" in
the letters of the axes: "DHK -> (HK)D" is a torch.nn.Linear of width D into H heads of K, stored
outputs first. A name that ends in "[1/3]" means the first of three equal slices of the last axis.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flax import linen as nn

from zoo import registry, tokenizers
from zoo.layers.feed_forward import ACTIVATIONS

Row = str | tuple[str, str]
# The published fields of one of our fields (all are written, the first is read), and the default.
Field = tuple[str | tuple[str, ...], Any]
Tokenizer = tokenizers.Tokenizer | tokenizers.Sides

# The published names of an activation, where they differ from ours; the first is the one we write.
PUBLISHED_ACTIVATIONS = {
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
}
# Not a field of transformers, which keeps what it does not know; named as its scripts name it.
NULL_THRESHOLD = "null_score_diff_threshold"
# What a published true or false means as a value of our config.
MEANINGS: dict[str, dict[bool, Any]] = {
    "output_table": {True: "tied", False: "untied"},
    "head_exponent": {True: -0.5, False: 0.0},
    "embedding_exponent": {True: 0.5, False: 0.0},
}


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
      nullable: Published fields whose value may be null: then it follows from others.
      weights: The weight table.
      prefix: The prefix of tensor names, absent in the folder of a bare trunk.
      tied: Name of a copy -> name of the original; they must be equal.
      untied: Rows of the weight table for a config whose output table is untied.
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
    nullable: tuple[str, ...] = ()
    prefix: str = ""
    tied: Mapping[str, str] = field(default_factory=dict)
    untied: Mapping[str, Row] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    tokenizer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The name of the architecture in the registry."""
        return registry.name_of(next(iter(self.classes.values())))

    def reads(self, published: Mapping[str, Any]) -> bool:
        """Return whether a config.json of this model_type is of this format."""
        return True

    def class_of(self, published: Mapping[str, Any]) -> type[nn.Module]:
        """Return our class for a config.json; raise ValueError if it names an unknown class."""
        names = published.get("architectures") or list(self.classes)
        if not isinstance(names, list) or not isinstance(names[0], str):
            raise ValueError(f"architectures = {names!r:.60}, expected a list of names")
        problem = f"{names[0]}[{published.get('problem_type')}]"
        cls = self.classes.get(problem, self.classes.get(names[0]))
        if cls is None:
            known = ", ".join(name for name in self.classes if not name.endswith("]"))
            raise ValueError(
                f"config.json has the class {names[0]!r:.60}; zoo supports {known}: to load it as "
                "one of them, use --model-class, or cls in Python"
            )
        return cls

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
            if ours in MEANINGS:
                value = MEANINGS[ours].get(default if value is None else value)
            values[ours] = self.activation(value) if ours == "activation" else value
        names = {f.name for f in dataclasses.fields(self.config_class)}
        if "head_width" in names and "head_width" not in values:
            values["head_width"] = values["width"] // values["num_heads"]
        return self.config_class(**values)

    def activation(self, theirs: str) -> str:
        """Return our name of an activation; raise ValueError if it is not supported."""
        return our_activation(theirs)

    def published_activation(self, ours: str) -> str:
        """Return the published name of an activation."""
        return PUBLISHED_ACTIVATIONS.get(ours, (ours,))[0]

    def fit(self, config: Any, tensors: Mapping[str, np.ndarray]) -> Any:
        """Return the config, with what only the tensors of a folder show."""
        return config

    def from_config(self, config: Any) -> dict[str, Any]:
        """Return the fields of config.json; raise ValueError if it cannot express the config."""
        published = self.describe(config)
        try:
            back = self.to_config(published)
        except ValueError as error:
            raise ValueError(
                f"the Hugging Face format of {self.model_type} cannot express {error}"
            ) from None
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
            if ours == "activation":
                value = self.published_activation(value)
            if ours in MEANINGS:
                value = next((flag for flag, v in MEANINGS[ours].items() if v == value), None)
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

    def row(self, config: Any, path: str) -> tuple[str, str | None]:
        """Return the published name and the layout of one of our parameters."""
        weights = self.rows(config)
        layer = re.search(r"_(\d+)/", path)
        row = weights[path if layer is None else path.replace(layer[0], "_{}/")]
        name, layout = (row, None) if isinstance(row, str) else row
        return (name if layer is None else name.format(self.layer(config, int(layer[1])))), layout

    def rows(self, config: Any) -> dict[str, Row]:
        """Return the weight table for a config."""
        is_untied = getattr(config, "output_table", None) == "untied"
        return {**self.weights, **(self.untied if is_untied else {})}

    def layer(self, config: Any, number: int) -> str:
        """Return what published names have for the number of a layer."""
        return str(number)

    def buffers(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors that transformers stores besides the weights.

        By default, those that a copy replaces where they are not tied.
        """
        return {
            original: tensors[copy]
            for copy, original in self.tied.items()
            if copy in tensors and original not in tensors
        }


def our_activation(theirs: str) -> str:
    """Return our name of a published activation; raise ValueError if it is not supported."""
    names = PUBLISHED_ACTIVATIONS.items()
    name = next((ours for ours, published in names if theirs in published), theirs)
    if name not in ACTIVATIONS:
        published = [PUBLISHED_ACTIVATIONS.get(ours, (ours,)) for ours in ACTIVATIONS]
        supported = ", ".join(name for names in published for name in names)
        raise ValueError(f"{theirs!r:.60}; zoo supports {supported}")
    return name
