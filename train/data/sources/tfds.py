"""TensorFlow Datasets as documents, read without TensorFlow.

Datasets that are prepared as array_record or parquet are read directly. Others are prepared as
array_record if the code of the dataset does not need TensorFlow.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from train.data.sources.source import Source


@dataclass(frozen=True, eq=False)
class Examples(Source):
    """A text field of a dataset; each example is a document."""

    examples: Sequence[Mapping[str, Any]]
    field: str
    name: str  # the full name of the dataset, with its version
    split: str

    def documents(self) -> Iterator[str]:
        for index in range(len(self.examples)):
            document = self.examples[index][self.field]
            yield document.decode() if isinstance(document, bytes) else str(document)

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 of the name and size of the dataset and of its first and last example."""
        count = len(self.examples)
        ends = [str(self.examples[index][self.field]) for index in (0, count - 1) if count]
        identity = json.dumps([self.name, self.split, self.field, count, ends])
        return hashlib.sha256(identity.encode()).hexdigest()


def read(
    name: str,
    split: str = "train",
    text_field: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Examples:
    """Return a dataset as a source in which each example is a document.

    A dataset that is not prepared yet is downloaded and prepared, unless ZOO_OFFLINE is set.

    Args:
      name: The name of the dataset, or the folder in which it was prepared.
      split: The split to read.
      text_field: The text field of the examples. None: "text", or the only text field.
      data_dir: The folder of prepared datasets. None: the default of TensorFlow Datasets.

    Raises:
      ValueError: If the name, split or field is unknown, or if reading or preparing the data needs
        TensorFlow.
      FileNotFoundError: If ZOO_OFFLINE is set and the dataset is not prepared.
    """
    builder = _builder(name, data_dir)
    field = _field(name, builder.info.features, text_field)
    return Examples(_prepared(name, builder, split), field, builder.info.full_name, split)


def rows(
    name: str, split: str = "train", data_dir: str | os.PathLike | None = None
) -> Iterator[dict]:
    """Return the examples of a dataset as plain values; a class is its name, or None for -1.

    The dataset is prepared as in `read`, with the same errors.
    """
    builder = _builder(name, data_dir)
    features = builder.info.features
    return (_plain(features, example) for example in _prepared(name, builder, split))


def splits(name: str, data_dir: str | os.PathLike | None = None) -> list[str]:
    """Return the names of the splits of a dataset."""
    return list(_builder(name, data_dir).info.splits)


def _plain(feature, value):
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Sequence) and isinstance(value, dict):
        inner = feature.feature  # TFDS returns a list of dicts as a dict of lists
        return {key: [_plain(inner[key], item) for item in value[key]] for key in value}
    if isinstance(feature, tfds.features.Sequence):
        return [_plain(feature.feature, item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(feature[key], item) for key, item in value.items()}
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value)) if value >= 0 else None
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _prepared(name: str, builder, split: str):
    """Return the examples of a split as a sequence, preparing the dataset if necessary."""
    if not builder.is_prepared() and os.environ.get("ZOO_OFFLINE"):
        raise FileNotFoundError(
            f"{name} is not prepared in {builder.data_path}: unset ZOO_OFFLINE to download it"
        )
    try:
        builder.download_and_prepare()
        examples = builder.as_data_source(split=split)
        len(examples)  # some datasets fail only here
    except Exception as error:
        raise ValueError(f"{name} cannot be read without TensorFlow: {_line(error)}") from error
    return examples


def _builder(name: str, data_dir):
    import tensorflow_datasets as tfds

    try:
        if Path(name, "dataset_info.json").exists():
            return tfds.builder_from_directory(name)
        try:
            return tfds.builder(name, data_dir=data_dir, file_format="array_record")
        except tfds.core.registered.DatasetNotFoundError:
            # TFDS imports the modules of older datasets lazily, and registers them on first access.
            camel = "".join(word.capitalize() for word in name.split("/")[0].split("_"))
            modules = (tfds.text, tfds.translate, tfds.summarization, tfds.question_answering)
            if not any(getattr(module, camel, None) for module in modules):
                raise ValueError(f"TFDS has no dataset called {name}") from None
            return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except Exception as error:
        raise ValueError(f"{name} cannot be opened: {_line(error)}") from error


def _field(name: str, features, requested: str | None) -> str:
    import tensorflow_datasets as tfds

    texts = [key for key, value in features.items() if isinstance(value, tfds.features.Text)]
    if requested is None and "text" in texts:
        return "text"
    if requested is None and len(texts) == 1:
        return texts[0]
    if requested is None or requested not in texts:
        reason = "no field was given" if requested is None else f"{requested} is not one of them"
        raise ValueError(f"{name} has the text fields {', '.join(texts) or '(none)'}: {reason}")
    return requested


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
