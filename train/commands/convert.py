"""From Hugging Face's folders to ours and back: `zoo import` and `zoo export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Import:
    """Write a Hugging Face folder as one of ours."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder with config.json and model.safetensors."""
    out: Annotated[Path, tyro.conf.Positional]
    """The folder to write."""
    new: tuple[str, ...] = ()
    """Parameters, by the beginning of their path, that the folder lacks and that are drawn anew."""
    ignore: tuple[str, ...] = ()
    """Tensors, by the beginning of their name, to leave out."""

    def run(self) -> None:
        """Loads, checks and writes."""
        import jax

        import zoo

        key = jax.random.key(0)
        zoo.save(zoo.load(self.folder, new=self.new, ignore=self.ignore, key=key), self.out)
        print(f"model folder: {self.out}")


@dataclass(frozen=True)
class Export:
    """Write a model folder as a Hugging Face folder, which transformers loads."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The model folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """The folder to write."""
    cls: str | None = None
    """Which part of a model that is published in parts, such as ElectraGenerator."""

    def run(self) -> None:
        """Writes config.json, model.safetensors and the tokenizer."""
        import zoo

        zoo.export(zoo.load(self.folder), self.out, self.cls)
        print(f"Hugging Face folder: {self.out}")
