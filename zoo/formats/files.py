"""Published formats that are single files: how each is recognized, read and written."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo import untrusted
from zoo.contracts import WordVectorModel
from zoo.formats import arpa, elmo, fastai, fasttext, flair, pickle, word_vectors
from zoo.models.awd_lstm import AWDLSTMLM
from zoo.models.elmo import ELMoTrunk
from zoo.models.fasttext import FastText, FastTextClassifier
from zoo.models.flair import FlairLM
from zoo.models.glove import Config as GloVeConfig
from zoo.models.glove import GloVe
from zoo.models.ngram import NGram
from zoo.models.word2vec import Config as Word2VecConfig
from zoo.models.word2vec import Word2Vec
from zoo.tokenizers import AnyTokenizer, Tokenizer, sides, units


@dataclass(frozen=True)
class FileFormat:
    """A format that is read.

    `is_format` tells by the content of a file whether it has this format, given that it has none of
    those before it in FORMATS. `read` gets whether weights may have wrong values; word vectors and
    counts may not.
    """

    title: str
    is_format: Callable[[Path], bool]
    class_of: Callable[[Path], type[Any]]
    read: Callable[[Path, bool], tuple[Any, dict, Tokenizer | None]]


@dataclass(frozen=True)
class WrittenFormat(FileFormat):
    """A format in which models of some classes are written, to files with one of some endings."""

    classes: tuple[type, ...]
    endings: tuple[str, ...]
    write: Callable[[Path, Any, Any, AnyTokenizer | None], None]


def find(file: str | os.PathLike) -> FileFormat | None:
    """Return the format of a file, or None if it is a folder or does not exist.

    Raises:
      OSError: If it is a pipe or a device.
      ValueError: If the file is empty, or a pickle, an array or an archive.
    """
    file = Path(file)
    if not arpa.is_arpa(file):
        if file.is_dir() or not file.exists():
            return None
        untrusted.check_file(file)
        if pickle.is_file(file):
            return _of_torch(file)
        if not elmo.is_elmo(file):
            word_vectors.refuse_others(file)
    return next(format for format in FORMATS if format.is_format(file))


def _of_torch(file: Path) -> FileFormat:
    format = next((format for format in OF_TORCH if format.is_format(file)), None)
    if format is None:
        raise ValueError(
            f"{file} is a file of torch.save, but has neither a language model of Flair nor one of "
            "fastai: put weights of transformers into a folder, with their config.json"
        )
    return format


def for_model(model: nn.Module, file: str | os.PathLike) -> WrittenFormat | None:
    """Return the format in which a model is written to a file of some name.

    None: The model has no such format.

    Raises:
      ValueError: If it has, but the name of the file is none of theirs.
    """
    formats = [format for format in WRITTEN if isinstance(model, format.classes)]
    name = Path(file).name
    for format in formats:
        if name.endswith(format.endings):
            return format
    if formats:
        choices = ", ".join(f"{file}{format.endings[0]} ({format.title})" for format in formats)
        raise ValueError(f"a {type(model).__name__} is exported as one file: name it {choices}")
    return None


def _read_arpa(file: Path, unchecked: bool) -> tuple[Any, dict, Tokenizer]:
    config, tables, tokenizer = arpa.read(file)
    return config, jax.tree.map(jnp.asarray, tables), tokenizer


def _read_vectors(
    config: type, read: Callable[[Path], word_vectors.Vectors]
) -> Callable[[Path, bool], tuple[Any, dict, Tokenizer]]:
    def read_file(file: Path, unchecked: bool) -> tuple[Any, dict, Tokenizer]:
        words, table = read(file)
        size, width = table.shape
        return config(vocab_size=size, width=width), {"words": table}, units.words(words)

    return read_file


def _write_vectors(
    write: Callable[..., None],
) -> Callable[[Path, Any, chex.ArrayTree, AnyTokenizer | None], None]:
    def write_file(
        file: Path, model: Any, params: chex.ArrayTree, tokenizer: AnyTokenizer | None
    ) -> None:
        words, ids = _vocabulary(tokenizer)
        write(file, words, _rows(model, params, words, ids), model.config.width)

    return write_file


def _rows(model: Any, params: Any, words: list[str], ids: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the vectors of words, some at a time."""
    for start in range(0, len(words), word_vectors.WRITTEN):
        part = slice(start, start + word_vectors.WRITTEN)
        yield model.word_vectors(params, words[part], ids[part])


def _read_fasttext(file: Path, unchecked: bool) -> tuple[Any, dict, Tokenizer]:
    words, config, params = fasttext.read(file)
    return config, params, units.words(words)


def _write_fasttext(
    file: Path, model: FastText, params: chex.ArrayTree, tokenizer: AnyTokenizer | None
) -> None:
    words, _ = _vocabulary(tokenizer)
    fasttext.write(file, words, model.config, cast(dict, params))


def _outlined(is_model: Callable[[Mapping[str, Any]], bool]) -> Callable[[Path], bool]:
    """Return whether a file is of a model, by what torch.save put into it."""
    records = {**flair.RECORDS, **fastai.RECORDS}
    return lambda file: is_model(pickle.outline(file, records))


def _vocabulary(tokenizer: AnyTokenizer | None) -> tuple[list[str], np.ndarray]:
    """Return all tokens with their ids, in the order of ids; special tokens are words as others."""
    if tokenizer is None:
        raise ValueError("a file of word vectors has words, but the model has no tokenizer")
    ids = sides(tokenizer).source.get_vocab()
    words = sorted(ids, key=ids.__getitem__)
    return words, np.array([ids[word] for word in words], np.int64)


# Those of torch.save, which are distinguished by the names in the file.
OF_TORCH = (
    FileFormat("Flair language model", _outlined(flair.is_flair), lambda file: FlairLM, flair.read),
    FileFormat(
        "fastai language model", _outlined(fastai.is_fastai), lambda file: AWDLSTMLM, fastai.read
    ),
)
# In the order in which a file is examined and the name of a new file is compared.
FORMATS = (
    WrittenFormat(
        "ARPA file",
        arpa.is_arpa,
        lambda file: NGram,
        _read_arpa,
        (NGram,),
        (".arpa", ".arpa.gz"),
        arpa.write,
    ),
    FileFormat("ELMo weights", elmo.is_elmo, lambda file: ELMoTrunk, elmo.read),
    WrittenFormat(
        "fastText binary",
        fasttext.is_fasttext,
        lambda file: FastTextClassifier if fasttext.is_classifier(file) else FastText,
        _read_fasttext,
        (FastText,),
        (".bin",),
        _write_fasttext,
    ),
    WrittenFormat(
        "word2vec binary",
        word_vectors.is_binary,
        lambda file: Word2Vec,
        _read_vectors(Word2VecConfig, word_vectors.read_binary),
        (WordVectorModel,),
        (".bin", ".bin.gz"),
        _write_vectors(word_vectors.write_binary),
    ),
    WrittenFormat(
        "GloVe text",
        lambda file: not word_vectors.has_header(file),
        lambda file: GloVe,
        _read_vectors(GloVeConfig, word_vectors.read_text),
        (WordVectorModel,),
        (".glove.txt", ".glove.txt.gz"),
        _write_vectors(word_vectors.write_glove),
    ),
    WrittenFormat(
        "word2vec text",
        word_vectors.has_header,
        lambda file: Word2Vec,
        _read_vectors(Word2VecConfig, word_vectors.read_text),
        (WordVectorModel,),
        (".vec", ".txt", ".vec.gz", ".txt.gz"),
        _write_vectors(word_vectors.write_text),
    ),
)
WRITTEN = tuple(format for format in FORMATS if isinstance(format, WrittenFormat))
