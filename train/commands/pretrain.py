"""`zoo pretrain`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from train.commands.infer import Generate
from train.commands.pairs import pairs


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
    source: Path | None = None
    """For a translator: a file with a text a line, or a .tsv or .jsonl with pairs; .gz too."""
    target: Path | None = None
    """The file whose lines belong to those of --source."""
    fields: tuple[str, str] | None = None
    """Which fields of a .jsonl are source and target. None: those of that name."""
    dev: tuple[Path, ...] = ()
    """What to evaluate on, in the form of the training text. None: the last part of that."""
    tokenizer: Path | None = None
    """A folder with a tokenizer to use. None: one is trained on the text."""
    vocabulary: int | None = None
    """Words of the tokenizer and the model. None: as many as the recipe has."""
    config: tuple[str, ...] = ()
    """Sizes of the model in place of the recipe's own, such as width=512 dropout=0.1."""
    separate: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """For a translator: a vocabulary for each side, not one for both."""
    teacher: Path | None = None
    """A model folder to learn from: distillation."""
    steps: int | None = None
    """Steps in all. None, here and below: the recipe's own."""
    batch: int | None = None
    """Sequences in the batch of one step, over all devices."""
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

    def run(self) -> None:
        """Pretrain, then show a sample and where things are."""
        import jax

        from train.devices import malloc
        from train.devices.placement import join_processes
        from train.pretraining import distill, loop
        from train.recipes import recipe
        from train.recipes.recipe import with_config, with_fields
        from zoo import registry
        from zoo.contracts import EncoderDecoder, LanguageModel

        malloc.keep_freed_memory()
        if self.cluster:
            join_processes()
        plain = ("steps", "batch", "length", "seed", "dtype", "accumulate", "vocabulary")
        chosen = with_config(recipe(self.recipe), self.config)
        chosen = with_fields(chosen, **{name: getattr(self, name) for name in plain})
        if self.separate:
            chosen = chosen.separate_vocabularies()
        if self.teacher:
            chosen = distill.distilled(chosen, self.teacher)
        source, dev = self._sources(chosen)
        out = self.out or Path("runs") / self.recipe
        metrics = loop.pretrain(
            chosen,
            source,
            out,
            dev=dev,
            resume=self.resume,
            tokenizer=self.tokenizer,
            parallelism=self.parallel,
            mesh=self.mesh,
        )
        if not metrics or jax.process_index() > 0:
            return
        if self.teacher and isinstance(chosen, distill.DistillationRecipe):
            print("\n".join(distill.compare(out, self.teacher, chosen, source)))
        model = registry.named(chosen.architecture).Model(chosen.config)
        if isinstance(model, LanguageModel) and not isinstance(model, EncoderDecoder):
            print("a sample:")
            Generate(out, "The").run()
        print(f"model folder: {out}\ncurves: {out / 'curves.png'}")

    def _sources(self, chosen):
        """Return what to train and what to evaluate on; None for the last part of the former."""
        from train.data.sources import text, tfds

        given = [name for name in ("text", "tfds", "source") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"--{given[0]} and --{given[1]} exclude each other")
        if given and (given == ["source"]) != (chosen.source_kind == "pairs"):
            wanted = "--source" if chosen.source_kind == "pairs" else "--text or --tfds"
            raise ValueError(f"{self.recipe} learns from {chosen.source_kind}: give {wanted}")
        if self.target and not self.source:
            raise ValueError("--target is the other side of a --source: give both")

        def files(paths):
            if chosen.source_kind == "pairs":
                return pairs(paths, self.fields)
            return text.files(paths, self.separator)

        if self.tfds:
            source = tfds.read(self.tfds)
        elif given:
            source = files(self.text or [side for side in (self.source, self.target) if side])
        else:
            source = chosen.builtin_source()
        return source, files(self.dev) if self.dev else None
