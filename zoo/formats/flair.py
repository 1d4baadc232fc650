"""Flair's language models: files by torch.save of `flair.models.LanguageModel`.

A file has one direction, and our Flair has both: the other one is looked for beside it, in the file
with "backward" for "forward" in its name, or the reverse, as the released ones are named. The
dictionary of characters is read as a record of its attributes; nothing of it is run.

    state_dict    encoder.weight, rnn.weight_ih_l0 ..., decoder.weight, decoder.bias
    dictionary    flair.data.Dictionary: idx2item, the characters as UTF-8, the unknown one first
    is_forward_lm, hidden_size, nlayers, embedding_size, nout, dropout

Our vocabulary has the line end and the blank at fixed places, so the characters are put in another
order. It has no token that ends a document: the released models have the line end for that. What a
checkpoint has for going on with the training is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.formats import pickle, torch_lstm
from zoo.formats.weights import Row, fit
from zoo.models.flair import Config, FlairLM
from zoo.tokenizers import Tokenizer, units
from zoo.tokenizers.units import UNKNOWN

RECORDS = {**pickle.PLAIN, ("flair.data", "Dictionary"): pickle.Record}
FIELDS = ("state_dict", "dictionary", "is_forward_lm", "hidden_size", "nlayers", "embedding_size")
OF_CHARACTERS = ("encoder.weight", "decoder.weight", "decoder.bias")  # with a row for each


@dataclass(frozen=True)
class _Direction:
    """What a file has: a language model of one direction."""

    file: Path
    name: str  # forward or backward
    characters: list[str]
    tensors: Mapping[str, np.ndarray]
    config: Config

    def tensors_for(self, vocabulary: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the tensors by names with the file, and characters in the order of a vocabulary.

        Tables of another size are left as they are, so that they do not fit.
        """
        ids = {character: number for number, character in enumerate(self.characters)}
        order = [ids[character] for character in vocabulary]
        return {
            f"{self.file.name}: {name}": array[order]
            if name in OF_CHARACTERS and array.ndim and len(array) == len(order)
            else array
            for name, array in self.tensors.items()
        }

    def rows(self) -> dict[str, Row]:
        """Return where each parameter of this direction is."""
        c, trunk, head = self.config, f"trunk/{self.name}", f"{self.name}_head"
        V, D, inputs = c.vocab_size, c.width // 2, c.embed_width
        rows = {
            f"{trunk}/token_embedding/embedding": Row("encoder.weight", (V, inputs)),
            f"{head}/embedding": Row("decoder.weight", (V, D)),
            f"{head}/bias": Row("decoder.bias", (V,)),
        }
        for number in range(c.num_layers):
            layer = torch_lstm.rows(f"rnn.{{}}_l{number}", D if number else inputs, D)
            rows |= {f"{trunk}/stack/layers_{number}/{path}": row for path, row in layer.items()}
        return {
            path: row._replace(name=f"{self.file.name}: {row.name}") for path, row in rows.items()
        }


def is_flair(saved: Mapping[str, Any]) -> bool:
    """Return whether the outline of a file is that of a language model of Flair."""
    return saved.keys() >= set(FIELDS)


def read(file: Path, unchecked: bool = False) -> tuple[Config, dict[str, Any], Tokenizer]:
    """Return the config, the parameters and the tokenizer of both directions.

    Args:
      file: The file of one direction, beside that of the other.
      unchecked: Whether weights may be integers or not finite.

    Raises:
      FileNotFoundError: If the file of the other direction is missing.
      ValueError: If a file is damaged, has what this Flair lacks, or does not fit the other.
    """
    one = _read_direction(file)
    other = _read_direction(_other_file(one))
    files = f"{one.file} and {other.file}"
    if one.name == other.name:
        raise ValueError(f"{files} are both {one.name}: name the files by their directions")
    if one.config != other.config:
        raise ValueError(f"{files} have different sizes: {one.config} and {other.config}")
    if set(one.characters) != set(other.characters):
        raise ValueError(f"{files} have different characters, but share a vocabulary in zoo")
    vocabulary = _vocabulary(one.characters)
    params = fit(
        file,
        FlairLM(one.config),
        one.tensors_for(vocabulary) | other.tensors_for(vocabulary),
        one.rows() | other.rows(),
        unchecked=unchecked,
    )
    return one.config, params, units.characters(vocabulary)


def _other_file(one: _Direction) -> Path:
    other = "backward" if one.name == "forward" else "forward"
    before, found, after = one.file.name.rpartition(one.name)
    if not found:
        raise ValueError(
            f"{one.file} is the {one.name} language model of Flair, and its name does not say so: "
            "name both files alike, one with forward and one with backward"
        )
    file = one.file.with_name(f"{before}{other}{after}")
    if not file.is_file():
        raise FileNotFoundError(
            f"{one.file} is the {one.name} language model of Flair, which needs the {other} one "
            f"beside it: no such file: {file}"
        )
    return file


def _read_direction(file: Path) -> _Direction:
    saved = pickle.read(file, RECORDS)
    if missing := [name for name in FIELDS if name not in saved]:
        raise ValueError(f"{file} is no language model of Flair: it lacks {', '.join(missing)}")
    tensors = saved["state_dict"]
    if not isinstance(tensors, dict) or not all(
        isinstance(array, np.ndarray) for array in tensors.values()
    ):
        raise ValueError(f"{file} has a state_dict with other things than tensors")
    characters = _characters(file, saved["dictionary"])
    shapes = {name: array.shape for name, array in tensors.items()}
    embedding, recurrent = shapes.get("encoder.weight", ()), shapes.get("rnn.weight_hh_l0", ())
    if len(embedding) != 2 or len(recurrent) != 2:
        raise ValueError(f"{file} lacks the tables encoder.weight or rnn.weight_hh_l0 of Flair")
    dropout = saved.get("dropout", Config.dropout)
    config = Config(
        vocab_size=len(characters),
        num_layers=sum(name.startswith("rnn.weight_hh_l") for name in shapes),
        width=2 * recurrent[1],
        dropout=float(dropout) if isinstance(dropout, int | float) else Config.dropout,
        embed_width=embedding[1],
    )
    supported = {
        "hidden_size": config.width // 2,
        "nlayers": config.num_layers,
        "embedding_size": config.embed_width,
        "nout": None,
        "document_delimiter": "\n",
    }
    problems = [
        f"{name} = {saved[name]!r:.60}, where zoo supports {ours!r} only"
        for name, ours in supported.items()
        if saved.get(name, ours) != ours
    ]
    if str(saved.get("recurrent_type", "LSTM")).upper() != "LSTM":
        problems.append(f"recurrent_type = {saved['recurrent_type']!r:.60}; zoo supports LSTM only")
    if problems:
        raise ValueError(f"{file} has " + "; ".join(problems))
    name = "forward" if saved["is_forward_lm"] else "backward"
    return _Direction(file, name, characters, tensors, config)


def _characters(file: Path, dictionary: Any) -> list[str]:
    """Return the characters in the order of their ids.

    Raises:
      ValueError: If it is no such dictionary, or lacks the characters that zoo needs.
    """
    attributes = dictionary.attributes if isinstance(dictionary, pickle.Record) else {}
    items: Any = attributes.get("idx2item")
    try:
        characters = [item.decode() if isinstance(item, bytes) else "" + item for item in items]
    except (TypeError, UnicodeDecodeError):
        raise ValueError(f"{file}: its dictionary has no idx2item with characters") from None
    missing = [character for character in (UNKNOWN, "\n", " ") if character not in characters]
    if missing or characters[0] != UNKNOWN or len({*characters}) < max(len(characters), 4):
        raise ValueError(
            f"{file}: its dictionary must have {UNKNOWN} first, a line end, a blank and another "
            "character, each once"
        )
    return characters


def _vocabulary(characters: Sequence[str]) -> list[str]:
    """Return the characters in our order: unknown, any other, the line end, the blank, the rest."""
    others = [character for character in characters if character not in (UNKNOWN, "\n", " ")]
    return [UNKNOWN, others[0], "\n", " ", *others[1:]]
