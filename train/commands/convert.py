"""Conversion of model folders: `zoo import` and `zoo export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from train import unused


@dataclass(frozen=True)
class Import:
    """Write a Hugging Face folder, or a file of another library, as a model folder."""

    example: ClassVar[str] = "zoo import google-bert/bert-base-uncased models/bert-base"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The Hugging Face folder, with config.json and model.safetensors, or a name on the Hub, such
    as google-bert/bert-base-uncased, or NAME@REVISION; or the file: .arpa, the word vectors of
    word2vec, GloVe or fastText, or the weights of ELMo (.hdf5), Flair (.pt) or fastai's AWD-LSTM
    (.pth)."""
    out: Annotated[Path, tyro.conf.Positional]
    """The folder to write."""
    architecture: str | None = None
    """The architecture of a Hugging Face folder whose config.json has no model_type, such as bert.
    """
    model_class: str | None = None
    """The class to read it as, such as BertForMaskedLM; by default, the one that it names."""
    new: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[PREFIX ...]")] = ()
    """Path prefixes of parameters that are missing in the folder, to initialize randomly."""
    ignore: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[PREFIX ...]")] = ()
    """Name prefixes of tensors in the folder to ignore."""
    unchecked: bool = False
    """Take weights that are integers or not finite too, to look at them."""
    overwrite: bool = False
    """Replace the model or the run that is in the folder to write."""

    def run(self) -> None:
        """Load, check and write the model."""
        import jax

        import zoo
        from zoo.checkpoints import existing, hub
        from zoo.checkpoints.load import is_published

        existing.check_folder(self.out, overwrite=self.overwrite)
        folder = hub.resolve(self.folder)
        if not is_published(folder):
            unused.refuse(self, ["architecture", "new", "ignore"], "is for a Hugging Face folder")
        loaded = zoo.load(
            folder,
            cls=self.model_class,
            architecture=self.architecture,
            new=self.new,
            ignore=self.ignore,
            key=jax.random.key(0),
            unchecked=self.unchecked,
        )
        zoo.save(loaded, self.out, overwrite=self.overwrite)
        print(f"model folder: {self.out}")


@dataclass(frozen=True)
class Export:
    """Write a model folder as a Hugging Face folder, or a vector or ARPA file."""

    example: ClassVar[str] = "zoo export runs/gpt2-tiny exported/gpt2-tiny"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The model folder, or a name on the Hub."""
    out: Annotated[Path, tyro.conf.Positional]
    """The folder to write; for an n-gram model, the .arpa file; for word vectors, the .txt, .vec,
    .glove.txt or .bin file."""
    model_class: str | None = None
    """For a model that is published in parts: the part, such as ElectraGenerator."""
    overwrite: bool = False
    """Replace the file, or the model or the run in the folder, that is there."""

    def run(self) -> None:
        """Write config.json, model.safetensors and the tokenizer; or the file."""
        import zoo

        if self.out.suffix in (".arpa", ".txt", ".vec", ".bin"):
            unused.refuse(self, ["model_class"], "is for a Hugging Face folder")
        zoo.export(zoo.load(self.folder), self.out, self.model_class, overwrite=self.overwrite)
        print(f"{'file' if self.out.is_file() else 'Hugging Face folder'}: {self.out}")
