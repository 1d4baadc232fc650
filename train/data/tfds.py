"""TensorFlow Datasets as documents, read without TensorFlow.

Reads what is prepared as array_record or parquet, and prepares as array_record where a dataset's
own code does without TensorFlow.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from train.data import text


def read(
    name: str, split: str = "train", text_field: str | None = None, data_dir=None
) -> text.Source:
    """A dataset, by its name or by the folder it was prepared in, as a source.

    Each example is a document: its field `text_field`, or else the one called "text", or else the
    only text that it has. What is not prepared yet is downloaded and prepared into `data_dir`,
    unless ZOO_OFFLINE is set.

    Raises ValueError for an unknown name, split or field, and for data that TensorFlow alone can
    read or prepare; FileNotFoundError where ZOO_OFFLINE is set and the data are not there.
    """
    builder = _builder(name, data_dir)
    field = _field(name, builder.info.features, text_field)
    if not builder.is_prepared() and os.environ.get("ZOO_OFFLINE"):
        raise FileNotFoundError(
            f"{name} is not prepared in {builder.data_path}, and ZOO_OFFLINE is set"
        )
    try:
        builder.download_and_prepare()
        examples = builder.as_data_source(split=split)
        count = len(examples)
    except Exception as error:
        raise ValueError(f"{name} cannot be read without TensorFlow: {_line(error)}") from error

    def documents() -> Iterator[str]:
        for index in range(count):
            document = examples[index][field]
            yield document.decode() if isinstance(document, bytes) else str(document)

    ends = [str(examples[index][field]) for index in (0, count - 1)] if count else []
    identity = json.dumps([builder.info.full_name, split, field, count, ends])
    return text.Source(documents, hashlib.sha256(identity.encode()).hexdigest())


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
    if wanted not in texts:
        called = "no field was named" if wanted is None else f"{wanted} is none"
        raise ValueError(f"{name} has the text fields {', '.join(texts) or '(none)'}: {called}")
    return wanted


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
