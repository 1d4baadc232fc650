"""A run that takes seconds: 64 words, two layers of width 32, sentences drawn from a grammar.

python -m tests.tiny_run FOLDER [--resume]    trains it, slowly enough to be killed midway
"""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Tokenizer, models, pre_tokenizers

from train.data.sources import text
from train.optimization.optimizers import adamw
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.pretraining import pretrain
from train.recipes.gpt2 import END, GPT2Recipe
from zoo.models import gpt2

CONFIG = gpt2.Config(
    vocab_size=64, max_length=32, num_layers=2, num_heads=2, width=32, mlp_width=64, head_width=16
)
WORDS = [f"w{number}" for number in range(62)]


def tokenizer() -> Tokenizer:
    """Return a tokenizer with one token per word."""
    word_level = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*WORDS, "?"])}, "?"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    word_level.add_special_tokens([END])
    return word_level


def documents(seed=0, count=60) -> list[str]:
    """Return documents in which each word is about three times the one before it."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        numbers = [int(random.integers(62))]
        for _ in range(int(random.integers(20, 90))):
            numbers.append((3 * numbers[-1] + int(random.integers(4))) % 62)
        texts.append(" ".join(WORDS[number] for number in numbers))
    return texts


def source(seed=0, count=60) -> text.Source:
    return text.strings(documents(seed, count))


def wide_params(seed=0):
    """Return parameters of the model that are large enough for an error to show."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        gpt2.Model(CONFIG).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8), jnp.int32)
    )
    return jax.tree.map(
        lambda x: jnp.asarray(random.normal(0, 0.2, x.shape), x.dtype), shapes["params"]
    )


class WordRecipe(GPT2Recipe):
    """GPT-2 on whole words."""

    def train_tokenizer(self, texts):
        return tokenizer()


def recipe(dropout=0.1, family=WordRecipe, **fields) -> GPT2Recipe:
    """Return the recipe, with some of its fields replaced."""
    run = family(
        name="tiny",
        architecture="gpt2",
        config=replace(CONFIG, dropout=dropout),
        end_of_document=END,
        schedule=lambda steps: optax.constant_schedule(1e-2),
        optimizer=lambda schedule, decay_mask: adamw(schedule, eps=1e-4, decay_mask=decay_mask),
        undecayed=BIASES_AND_NORMS,
        steps=20,
        batch=8,
        length=16,
        evaluate_every=10,
        save_every=5,
        report_every=5,
    )
    return replace(run, **fields)


if __name__ == "__main__":
    slow = recipe(steps=120, evaluate_every=60, save_every=7, report_every=1)
    pretrain.pretrain(slow, source(), sys.argv[1], resume="--resume" in sys.argv)
