"""Tasks that a tiny model learns in seconds: one word of a text determines its class."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from train.data.examples.tables import TextExample
from train.finetuning import finetune, transfer, tuning
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import encode
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.models import bert
from zoo.params import flatten

GOOD, BAD, DULL = ("fine", "lovely", "great"), ("awful", "poor", "weak"), ("a", "the", "film", "is")
WORDS = [*GOOD, *BAD, *DULL]
SIZES = {
    "max_length": 32,
    "num_layers": 2,
    "num_heads": 2,
    "width": 16,
    "mlp_width": 32,
    "head_width": 8,
    "dropout": 0.0,
}


def tokenizer(specials=("[PAD]", "[CLS]", "[SEP]")) -> Tokenizer:
    """Return a tokenizer of one token per word; three special tokens frame a text as BERT's do."""
    names = [*specials, *WORDS, "?"]
    word_level = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "?"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if len(specials) == 3:
        word_level.add_special_tokens(list(specials))
        word_level.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
    return word_level


def texts(count, seed=0) -> tuple[TextExample, ...]:
    """Return texts that a single word makes good or bad."""
    random = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        words = list(random.choice(DULL, random.integers(2, 9)))
        words[random.integers(len(words))] = random.choice((BAD, GOOD)[number % 2])
        examples.append(TextExample(" ".join(words), None, ("bad", "good")[number % 2]))
    return tuple(examples)


def folder(tmp_path: Path, architecture=bert, config=None, words=None) -> Path:
    """Write a model folder as pretraining does, with random weights."""
    words = words or tokenizer()
    config = config or bert.Config(vocab_size=words.get_vocab_size(), **SIZES)
    model = architecture.Model(config)
    params = model.init(jax.random.key(5), jnp.zeros((1, 8), jnp.int32))["params"]
    name = registry.name_of(model)
    model_folder.write(tmp_path / "pretrained", name, config, params, words)
    return tmp_path / "pretrained"


CLASSIFICATION = TASKS["classification"]
DATA = {"train": texts(96), "dev": texts(32, 1)}
SETTINGS = Settings(learning_rate="1e-2", epochs=8.0, batch=16, length=32)


def tune(tmp_path, settings=SETTINGS, task=CLASSIFICATION, data=None, start=None):
    """Fine-tune into the folder `out` and return metrics and notes."""
    start = start or folder(tmp_path)
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    return finetune.finetune(start, task, data or DATA, out, settings)


def trained(tmp_path, settings, data=DATA) -> tuple[dict, list[dict]]:
    """Return the flat parameters before training, and those of every run after it."""
    loaded, new_paths = transfer.load_for_task(
        folder(tmp_path), "classification", ("bad", "good"), key=jax.random.key(0)
    )
    rows = {name: encode(CLASSIFICATION, loaded, data[name], 32) for name in data}
    settings = replace(settings, keep="last")  # the best may be from an earlier stage
    out = tmp_path / "run"
    shutil.rmtree(out, ignore_errors=True)
    runs = tuning.prepare(loaded, new_paths, CLASSIFICATION, data["dev"], rows, out, settings)
    return flatten(loaded.params), [flatten(params) for params in tuning.train_runs(runs)]


def changed(before: dict, after: dict) -> set[str]:
    """Return the paths of the parameters that training changed."""
    return {path for path in before if not np.array_equal(before[path], after[path])}


def saved(tmp_path) -> tuple[Path, Path]:
    """Return the folder that `tune` writes, and a file with the examples of "dev"."""
    file = tmp_path / "dev.tsv"
    rows = [f"{text.text}\t{text.label}" for text in DATA["dev"]]
    file.write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return tmp_path / "out", file
