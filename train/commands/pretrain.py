"""`zoo pretrain`."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from train import unused
from train.commands import vectors
from train.commands.command import print_skipped, unescaped
from train.commands.infer import Generate, GenerateSound
from train.counting.settings import CountSettings
from train.ranges import Axis, Natural, Positive, PositiveFloat, Probability
from train.recipes.word_vector_settings import WordVectorSettings

# The options that give a source -> its kind.
KINDS = {"text": "text", "tfds": "text", "source": "pairs", "sound": "sound"}
NOT_COUNTED, AS_RECIPE = CountSettings(), WordVectorSettings()
# The arguments of no use to a model that is not trained by gradient.
GRADIENT_ONLY = (
    *("config", "separate_vocabularies", "teacher", "steps", "batch", "length", "samples", "pack"),
    *("seed", "dtype", "accumulate", "remat", "parallel", "mesh", "cluster", "resume", "verbose"),
    *("epochs", "word_vectors", "embeddings", "freeze_embeddings", "init", "add_words"),
    *("evaluate_tokens", "learning_rate", "mask_rate"),
)


@dataclass(frozen=True)
class Pretrain:
    """Train a model by a recipe, and write a model folder."""

    example: ClassVar[str] = "zoo pretrain gpt2-tiny --text book.txt --out runs/book"

    recipe: Annotated[str, tyro.conf.Positional]
    """The recipe: a model and the settings of its training. `zoo list` shows all recipes."""
    text: tuple[Path, ...] = ()
    """Text files (UTF-8, or .gz), one document per file. Default: a built-in corpus."""
    separator: str | None = None
    """The string between documents within a file, such as "\\n\\n". Default: one per file."""
    tfds: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """A prepared dataset of TensorFlow Datasets: its name, or the folder that contains it."""
    source: Path | None = None
    """For translation: a file with one text per line, or a .tsv or .jsonl file of pairs."""
    target: Path | None = None
    """For translation: the file whose lines translate those of --source."""
    fields: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="SOURCE TARGET")] = None
    """The two fields of a .jsonl file to use. Default: source target."""
    skip_invalid: bool = False
    """For translation: skip pairs with an empty side or a wrong number of columns, and print how
    many."""
    sound: tuple[Path, ...] = ()
    """For a model of sound: .wav files with 16-bit PCM samples. Default: a built-in melody."""
    dev: tuple[Path, ...] = ()
    """Files to evaluate on. Default: the last part of the training text is held out."""
    tokenizer: Annotated[str | Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A folder with a tokenizer, or a name on the Hub. Default: train one on the text."""
    vocab_size: Positive | None = None
    """Vocabulary size of tokenizer and model. Default: the recipe's."""
    config: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=VALUE ...]")] = ()
    """Changes to the recipe's model config, such as width=512 dropout=0.1."""
    separate_vocabularies: bool = False
    """For translation: one vocabulary per language instead of a joint one."""
    init: Annotated[str | Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Start from the model of this folder, ours or Hugging Face's, or name on the Hub, with its
    tokenizer and config. Default: random weights."""
    add_words: Annotated[Positive | None, tyro.conf.arg(metavar="COUNT")] = None
    """With --init, for a model of whole words: add the words that occur so often in the text."""
    embeddings: Annotated[str | Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Start the input table from the word vectors of this folder or file, or name on the Hub.
    Without --tokenizer, a causal language model then reads words. Default: a random table."""
    freeze_embeddings: bool = False
    """Keep that table as it is."""
    teacher: Annotated[str | Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Distillation: the model folder of the teacher, or a name on the Hub."""
    steps: Positive | None = None
    """Number of training steps. Default: the recipe's."""
    epochs: PositiveFloat | None = None
    """Passes over the text, in place of a number of steps."""
    batch: Positive | None = None
    """Sequences per step, over all devices. Default: the recipe's."""
    length: Positive | None = None
    """Tokens per sequence. Default: the recipe's."""
    learning_rate: PositiveFloat | None = None
    """Highest learning rate of the recipe's schedule. Default: the recipe's."""
    mask_rate: Probability | None = None
    """Fraction of the tokens that a masked language model predicts. Default: the recipe's."""
    samples: Natural | None = None
    """Negatives of a sampled softmax, for large vocabularies sorted by frequency; 0: the full
    softmax. Default: the recipe's."""
    pack: Annotated[Positive | None, tyro.conf.arg(metavar="COUNT")] = None
    """For short documents: rows of up to so many whole documents, which do not attend to each
    other; 1: each has a row of its own. Default: rows as in the paper."""
    seed: Natural | None = None
    """Random seed of weights, data order, masks and dropout. Default: the recipe's."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type to compute in; parameters stay float32. Default: the recipe's."""
    accumulate: Positive | None = None
    """Micro-batches per step: more of them need less memory. Default: the recipe's."""
    remat: Literal["none", "dots", "full"] | None = None
    """What the backward pass computes again to save memory: all of a block but its products with
    weights (dots), or whole blocks (full). Default: the recipe's."""
    parallel: Literal["mesh", "pmap"] = "mesh"
    """How devices share the work: as a mesh, or as replicas (pmap)."""
    mesh: Annotated[tuple[Axis, Axis, Axis], tyro.conf.arg(metavar="DATA FSDP TENSOR")] = (-1, 1, 1)
    """Number of devices along each axis of the mesh; -1: all that remain."""
    cluster: bool = False
    """Run as one of many processes: on a TPU pod, or under Slurm, Kubernetes or Open MPI."""
    counting: Annotated[CountSettings, tyro.conf.OmitArgPrefixes] = NOT_COUNTED
    """What is counted, for an n-gram model."""
    word_vectors: Annotated[WordVectorSettings, tyro.conf.OmitArgPrefixes] = AS_RECIPE
    """What word vectors are trained on."""
    out: Path | None = None
    """The folder to write. Default: runs/RECIPE."""
    evaluate_tokens: Annotated[str | None, tyro.conf.arg(metavar="INT|all")] = None
    """Held-out tokens to read per evaluation; the last one reads all. Default: 5 % of the tokens
    trained on since the one before."""
    resume: bool = False
    """Continue the run in that folder from its last checkpoint. More --steps lengthen it, if its
    learning rates do not depend on the number of steps."""
    overwrite: bool = False
    """Replace the model or the run in that folder."""
    verbose: bool = False
    """Also print which parameters have weight decay, and the baselines of the loss."""

    def run(self) -> None:
        """Pretrain, then print a sample and where the files are."""
        from train.devices import malloc
        from train.devices.placement import join_processes
        from train.loop import check_new
        from train.recipes import ngram
        from zoo.checkpoints.lock import locked

        malloc.keep_freed_memory()
        counts = self.recipe in ngram.RECIPES
        if self.cluster and not counts:
            join_processes()
        out = self.out or Path("runs") / self.recipe
        with locked(out):
            reads = [self.init, self.teacher, self.embeddings, self.tokenizer]
            check_new(out, resume=self.resume, overwrite=self.overwrite, reads=reads)
            if counts:
                self._count(ngram.RECIPES[self.recipe](), out)
            else:
                self._train(out)

    def _train(self, out: Path) -> None:
        import jax

        from train.pretraining import continued, distill, embeddings, pretrain
        from train.recipes import recipe
        from train.recipes.recipe import with_config, with_fields
        from zoo.contracts import EncoderDecoder, LanguageModel, SoundModel, WordVectorModel
        from zoo.direction import is_backward

        if self.parallel == "pmap" and self.mesh[1:] == (1, 1):
            unused.refuse(self, ["mesh"], "has no effect with --parallel pmap")
        if self.counting.given():
            raise ValueError(f"{self.counting.given()[0]} is for n-gram models, not {self.recipe}")
        plain = ["steps", "batch", "length", "samples", "seed", "dtype", "accumulate", "remat"]
        plain += ["pack", "vocab_size", "learning_rate", "mask_rate"]
        chosen = recipe(self.recipe)
        if self.add_words is not None and not self.init:
            raise ValueError("--add-words needs --init, the model that gets the words")
        if self.init:
            self._check_init()
            init = self.init
            if self.add_words is not None:
                init = self._with_words(chosen, init, self.add_words, out)
            chosen = continued.continued(chosen, init, self.config)
        else:
            chosen = with_config(chosen, self.config)
        chosen = with_fields(chosen, **{name: getattr(self, name) for name in plain})
        chosen = self.word_vectors.apply(chosen, self.counting.min_count)
        chosen = self._with_epochs(chosen)
        if self.embeddings:
            if self.teacher:
                raise ValueError("--embeddings and --teacher cannot be combined: leave out one")
            frozen = self.freeze_embeddings
            chosen = embeddings.with_embeddings(chosen, self.embeddings, frozen=frozen)
        elif self.freeze_embeddings:
            raise ValueError("--freeze-embeddings needs --embeddings: give the word vectors")
        if self.separate_vocabularies:
            chosen = chosen.separate_vocabularies()
        if self.teacher:
            chosen = distill.distilled(chosen, self.teacher)
        source, dev = self._sources(chosen)
        metrics = pretrain.pretrain(
            chosen,
            source,
            out,
            dev=dev,
            resume=self.resume,
            overwrite=self.overwrite,
            tokenizer=self.tokenizer,
            parallelism=self.parallel,
            mesh=self.mesh,
            evaluate_tokens=_count(self.evaluate_tokens),
            verbose=self.verbose,
        )
        if not metrics or jax.process_index() > 0:
            return
        if self.teacher and isinstance(chosen, distill.DistillationRecipe):
            print("\n".join(distill.compare(out, self.teacher, chosen, source, dev)))
        model = chosen.model_class()(chosen.config)
        if isinstance(model, SoundModel):
            return GenerateSound(out, out / "sample.wav", overwrite=True).run()
        generates = isinstance(model, LanguageModel) and not is_backward(chosen.config)
        if generates and not isinstance(model, EncoderDecoder):
            print("a sample:")
            tokens = min(Generate.max_new_tokens, chosen.config.max_length // 2)
            Generate(out, "The", max_new_tokens=tokens).run()
        if isinstance(model, WordVectorModel):
            print("\n".join(vectors.examples(out)))
        print(f"model folder: {out}\ncurves: {out / 'curves.png'}")

    def _with_words(self, chosen, init: str | Path, min_count: int, out: Path) -> Path:
        """Return the folder of a model with the words of the text that it lacks."""
        from train.pretraining import new_words

        new_words.extend(init, self._sources(chosen)[0], min_count, out / "start")
        return out / "start"

    def _with_epochs(self, recipe):
        if self.epochs is None:
            return recipe
        if self.steps is not None:
            raise ValueError("--epochs and --steps cannot be combined: give one of them")
        return dataclasses.replace(recipe, epochs=self.epochs)

    def _check_init(self) -> None:
        """Raise ValueError with a flag that --init leaves no choice for."""
        for name in (
            *("tokenizer", "vocab_size", "separate_vocabularies", "teacher", "embeddings"),
        ):
            if getattr(self, name):
                flag = name.replace("_", "-")
                raise ValueError(
                    f"--init and --{flag} cannot be combined: the folder gives model and tokenizer"
                )

    def _count(self, chosen, out: Path) -> None:
        from train.counting import evaluate, loop

        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in GRADIENT_ONLY:
            if getattr(self, name) != defaults[name]:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{self.recipe} is counted, not trained step by step: omit {flag}")
        chosen = self.counting.apply(chosen, self.tokenizer, self.vocab_size)
        loop.check(chosen)
        source, dev = self._sources(chosen)
        overwrite, tokenizer = self.overwrite, self.tokenizer
        evaluation = loop.pretrain(
            chosen, source, out, dev=dev, tokenizer=tokenizer, overwrite=overwrite
        )
        if self.counting.show:
            print("\n".join(evaluate.table(evaluation.orders)))
        print("a sample:")
        Generate(out, "The").run()
        print(f"model folder: {out}")

    def _sources(self, chosen):
        """Return the sources for training and for evaluation; None: hold out training text."""
        from train.data.sources import parallel_text, sound, text, tfds

        source_options = [name for name in KINDS if getattr(self, name)]
        if len(source_options) > 1:
            raise ValueError(f"--{source_options[0]} and --{source_options[1]} cannot be combined")
        if source_options and KINDS[source_options[0]] != chosen.source_kind:
            flags = [f"--{name}" for name, kind in KINDS.items() if kind == chosen.source_kind]
            expected = " or ".join(flags)
            raise ValueError(f"{self.recipe} is trained on {chosen.source_kind}: give {expected}")
        if chosen.source_kind != "pairs":
            unused.refuse(self, ["fields", "skip_invalid"], f"is for pairs, not {self.recipe}")
        elif not (self.source or self.dev):
            unused.refuse(self, ["fields", "skip_invalid"], "is for files: give --source")
        if not (chosen.source_kind == "text" and (self.text or self.dev)):
            unused.refuse(self, ["separator"], "is for text files")
        if self.target and not self.source:
            raise ValueError("--target needs --source: give both files")

        def files(paths):
            if chosen.source_kind == "pairs":
                skipped: list[str] | None = [] if self.skip_invalid else None
                pairs = parallel_text.files(paths, self.fields, skipped)
                print_skipped(skipped)
                return pairs
            if chosen.source_kind == "sound":
                return sound.files(paths)
            return text.files(paths, unescaped(self.separator))

        if self.tfds:
            source = tfds.read(self.tfds)
        elif source_options:
            source = files(
                self.text or self.sound or [side for side in (self.source, self.target) if side]
            )
        else:
            source = chosen.builtin_source()
        return source, files(self.dev) if self.dev else None


def _count(tokens: str | None) -> int | None:
    """Return the number of tokens that --evaluate-tokens names."""
    if tokens is None:
        return None
    if tokens == "all":
        return sys.maxsize
    if not tokens.isdecimal() or int(tokens) < 1:
        raise ValueError(f"--evaluate-tokens must be a positive number or all, not {tokens!r}")
    return int(tokens)
