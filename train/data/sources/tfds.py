"""TensorFlow Datasets as documents, read without TensorFlow.

Reads what is prepared as array_record or parquet, and prepares as array_record where a dataset's
own code does without TensorFlow.
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
    """A text field of all the examples of a dataset, each a document."""

    examples: Sequence[Mapping[str, Any]]
    field: str
    name: str  # the dataset's own, with its version
    split: str

    def documents(self) -> Iterator[str]:
        for index in range(len(self.examples)):
            document = self.examples[index][self.field]
            yield document.decode() if isinstance(document, bytes) else str(document)

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 of what the dataset is called, its size, and its first and last example."""
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
    """Return a dataset as a source: each example is a document.

    What is not prepared yet is downloaded and prepared, unless ZOO_OFFLINE is set.

    Args:
      name: The name of the dataset, or the folder that it was prepared in.
      split: Which split of it.
      text_field: Which field of the examples. None: the one called "text", or else the only text
        that there is.
      data_dir: Where datasets are prepared. None: where TensorFlow Datasets has them.

    Raises:
      ValueError: For an unknown name, split or field, and for data that TensorFlow alone can read
        or prepare.
      FileNotFoundError: If ZOO_OFFLINE is set and the data are not there.
    """
    builder = _builder(name, data_dir)
    field = _field(name, builder.info.features, text_field)
    return Examples(_prepared(name, builder, split), field, builder.info.full_name, split)


def rows(
    name: str, split: str = "train", data_dir: str | os.PathLike | None = None
) -> Iterator[dict]:
    """Yield the examples of a dataset as plain values: a class is its name, or None for -1.

    The dataset is found and prepared as in `read`, which names what is raised.
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
        inner = feature.feature  # a list of dicts comes as a dict of lists
        return {key: [_plain(inner[key], one) for one in value[key]] for key in value}
    if isinstance(feature, tfds.features.Sequence):
        return [_plain(feature.feature, one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(feature[key], one) for key, one in value.items()}
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value)) if value >= 0 else None
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _prepared(name: str, builder, split: str):
    """What is prepared of a split, or is now: a sequence of examples."""
    if not builder.is_prepared() and os.environ.get("ZOO_OFFLINE"):
        raise FileNotFoundError(
            f"{name} is not prepared in {builder.data_path}, and ZOO_OFFLINE is set"
        )
    try:
        builder.download_and_prepare()
        examples = builder.as_data_source(split=split)
        len(examples)  # some fail only here
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
            # Older datasets are found only once the module that defines them was touched.
            camel = "".join(word.capitalize() for word in name.split("/")[0].split("_"))
            modules = (tfds.text, tfds.translate, tfds.summarization, tfds.question_answering)
            if not any(getattr(module, camel, None) for module in modules):
                raise ValueError(f"TFDS has no dataset called {name}") from None
            return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except Exception as error:
        raise ValueError(f"{name} cannot be opened: {_line(error)}") from error


def _field(name: str, features, wanted: str | None) -> str:
    import tensorflow_datasets as tfds

    texts = [key for key, value in features.items() if isinstance(value, tfds.features.Text)]
    if wanted is None and "text" in texts:
        return "text"
    if wanted is None and len(texts) == 1:
        return texts[0]
    if wanted is None or wanted not in texts:
        called = "no field was named" if wanted is None else f"{wanted} is none"
        raise ValueError(f"{name} has the text fields {', '.join(texts) or '(none)'}: {called}")
    return wanted


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
