"""The command line: `zoo pretrain`, `generate`, `fill`, `detect`, `evaluate`, `list` and others."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Pretrain:
    """Train a recipe on text and leave a model folder."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Which one: `zoo list` shows them."""
    text: tuple[Path, ...] = ()
    """Text files, UTF-8, .gz too; each is one document. None: the built-in corpus."""
    separator: str | None = None
    """What separates documents within a file, such as a blank line, "\\n\\n"."""
    tfds: str | None = None
    """A dataset of TensorFlow Datasets by its name, or the folder where it is prepared."""
    tokenizer: Path | None = None
    """A folder with a tokenizer to use. None: one is trained on the text."""
    teacher: Path | None = None
    """A model folder to learn from: distillation."""
    steps: int | None = None
    """Updates in all. None, here and below: the recipe's own."""
    batch: int | None = None
    """Sequences in the batch of one update, over all devices."""
    length: int | None = None
    """Tokens in a sequence."""
    seed: int | None = None
    """Decides weights, order, masks and dropout."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """What matrix products compute in; parameters stay float32."""
    accumulate: int | None = None
    """Micro-batches that a batch is cut into, to save memory."""
    parallel: Literal["mesh", "pmap"] = "mesh"
    """How devices share the work."""
    mesh: tuple[int, int, int] = (-1, 1, 1)
    """Devices along data, fsdp and tensor; -1: all that are left."""
    cluster: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Join the other processes of a TPU pod, or of a Slurm, Kubernetes or Open MPI job."""
    out: Path | None = None
    """The folder to leave. None: runs/RECIPE."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in that folder."""

    def run(self):
        """Pretrains, then shows a sample and where things are."""
        import jax

        from train import distillation, loop, parallel
        from train.data import builtin, text, tfds
        from train.recipe import with_fields
        from train.recipes import recipe

        if self.cluster:
            parallel.start()
        plain = ("steps", "batch", "length", "seed", "dtype", "accumulate")
        chosen = with_fields(recipe(self.recipe), **{name: getattr(self, name) for name in plain})
        if self.teacher:
            chosen = distillation.distilled(chosen, self.teacher)
        if self.text and self.tfds:
            raise ValueError("--text and --tfds exclude each other")
        if self.text:
            source = text.files(self.text, self.separator)
        else:
            source = tfds.read(self.tfds) if self.tfds else builtin.read()
        out = self.out or Path("runs") / self.recipe
        figures = loop.pretrain(
            chosen,
            source,
            out,
            resume=self.resume,
            tokenizer=self.tokenizer,
            way=self.parallel,
            mesh=self.mesh,
        )
        if not figures or jax.process_index() > 0:
            return
        if self.teacher:
            print("\n".join(distillation.compare(out, self.teacher, chosen, source)))
        if chosen.architecture in ("gpt2", "rnn"):
            print("a sample:")
            Generate(out, "The").run()
        print(f"model folder: {out}\ncurves: {out / 'curves.png'}")


@dataclass(frozen=True)
class Generate:
    """Continue a text, or turn it into another with an encoder-decoder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    prompt: Annotated[str, tyro.conf.Positional] = ""
    """What to continue; nothing: a new document."""
    tokens: int = 100
    """How many tokens at most."""
    temperature: float = 0.8
    """Below 1 bolder, above 1 wilder; 0 always takes the likeliest."""
    top_k: int = 0
    """Choose among so many of the likeliest; 0: all."""
    top_p: float = 0.95
    """Choose among the likeliest that together have this probability."""
    seed: int = 0
    """Decides the draws."""
    beams: int = 0
    """Search with so many beams instead of drawing; 0: draw."""

    def run(self):
        """Prints the prompt and its continuation; of an encoder-decoder, what it makes of it."""
        from zoo import generate, load

        model, params, tokenizer = load(self.folder)
        settings = {"beams": self.beams}
        if not self.beams:
            names = ("temperature", "top_k", "top_p", "seed")
            settings = {name: getattr(self, name) for name in names}
        new = generate.text(model, params, tokenizer, self.prompt, length=self.tokens, **settings)
        print(new if hasattr(model, "encode") else self.prompt + new)


@dataclass(frozen=True)
class Fill:
    """Show what a masked model would put in the place of [MASK]."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """A text in which [MASK] (or the model's own mask token) stands for hidden words."""
    top: int = 5
    """How many words to show for each."""

    def run(self):
        """Prints the likeliest words for each mask, with their probabilities."""
        from zoo import fill, load

        for guesses in fill.fill(*load(self.folder), self.text, self.top):
            print("  ".join(f"{word} {probability:.3f}" for word, probability in guesses))


@dataclass(frozen=True)
class Detect:
    """Show which words of a text ELECTRA believes were replaced."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to look at."""

    def run(self):
        """Prints a line a piece of the text: its probability, and a star where it is above half."""
        from zoo import detect, load

        for piece, chance in detect.detect(*load(self.folder), self.text):
            print(f"{chance:.3f} {'*' if chance > 0.5 else ' '} {piece}")


@dataclass(frozen=True)
class Evaluate:
    """Measure a model on text with its own pretraining objective."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: tuple[Path, ...] = ()
    """Text files. None: the held-out part of the built-in corpus."""
    separator: str | None = None
    """What separates documents within a file."""
    batch: int = 16
    """Sequences at a time."""
    length: int | None = None
    """Tokens in a sequence. None: 128, or the most that the model takes."""

    def run(self):
        """Prints loss, perplexity, accuracy, and bits a byte of a causal model."""
        from train import evaluation
        from train.data import builtin, text

        source = text.files(self.text, self.separator) if self.text else None
        figures = evaluation.evaluate(
            self.folder, source or builtin.read(), self.batch, self.length, whole=source is not None
        )
        for name, value in figures.items():
            print(f"{name.replace('_', ' ')}: {value:.4f}")


@dataclass(frozen=True)
class List:
    """Show every model: architecture, size, parameters."""

    def run(self):
        """Prints a line a recipe."""
        import math

        import jax

        import zoo
        from train.recipes import RECIPES, recipe
        from zoo.huggingface import abstract

        for name in RECIPES:
            found = recipe(name)
            model = zoo.ARCHITECTURES[found.architecture].Model(found.config)
            count = sum(math.prod(x.shape) for x in jax.tree.leaves(abstract(model)))
            print(
                f"{name:28} {count:>14,} parameters  {found.steps:>9,} steps of "
                f"{found.batch} x {found.length}"
            )


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

    def run(self):
        """Loads, checks and writes."""
        import jax

        import zoo
        from zoo import checkpoint

        model, params, tokenizer = zoo.load(
            self.folder, new=self.new, ignore=self.ignore, key=jax.random.key(0)
        )
        name, cls = zoo.architecture(model), type(model).__name__
        checkpoint.write(self.out, name, model.config, params, tokenizer, cls)
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

    def run(self):
        """Writes config.json, model.safetensors and the tokenizer."""
        import zoo

        zoo.export(self.folder, self.out, self.cls)
        print(f"Hugging Face folder: {self.out}")


COMMANDS = {
    "pretrain": Pretrain,
    "generate": Generate,
    "fill": Fill,
    "detect": Detect,
    "evaluate": Evaluate,
    "list": List,
    "import": Import,
    "export": Export,
}


def main() -> None:
    """Runs one command; what the user can mend is one line and exit status 2."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="zoo")
    try:
        command.run()
    except (ValueError, OSError) as error:
        print(f"zoo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("zoo: stopped")


if __name__ == "__main__":
    main()
