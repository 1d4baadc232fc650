"""GPT: causal language modelling on windows of text.

Radford et al. 2018, section 4.1: windows of 512 tokens, batch 64, 100 epochs of BooksCorpus; Adam
with a peak learning rate of 2.5e-4 after 2,000 steps, then cosine to 0, and decoupled weight decay
of 0.01 on all weights that are not biases or gains. An epoch has about 800 million words.

Departures: every document begins with the token `_start_`, which the paper adds to the vocabulary
only for fine-tuning. Texts are cleaned and split into words as BERT does, not by ftfy and spaCy.
"""

from collections.abc import Iterable
from functools import partial

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.gpt2 import GPT2Recipe
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import gpt

START = "_start_"

BOOKS = 1_000_000_000  # tokens of BooksCorpus, about


class GPTRecipe(GPT2Recipe):
    """Recipes with windows of text and a BPE in lower case; `_start_` begins every document."""

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return train_tokenizer.end_of_word_bpe(texts, self.config.vocab_size)


def gpt_tiny() -> Recipe:
    """Return `zoo pretrain gpt-tiny`: four layers on the built-in corpus.

    Held-out perplexity is about 138 or 1.72 bits per byte (unigram model: 563 or 2.21). These bits
    do not pay for upper case and white space, which the tokenizer drops, so they are not comparable
    with those of GPT-2.
    """
    return _recipe(
        "gpt-tiny",
        schedule=lambda steps: schedules.cosine(1e-3, min(50, steps // 10), steps, 0.0),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def published() -> Recipe:
    """Return `zoo pretrain gpt`: 100 epochs of BooksCorpus."""
    return _recipe(
        "gpt",
        schedule=lambda steps: schedules.cosine(2.5e-4, min(2000, steps // 10), steps, 0.0),
        steps=100 * BOOKS // (64 * 512),
        batch=64,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name: str, **fields) -> GPTRecipe:
    return GPTRecipe(
        name=name,
        architecture="gpt",
        config=gpt.SIZES[name],
        end_of_document=START,
        optimizer=partial(optimizers.adamw, b1=0.9, b2=0.999, decay=0.01, clip=1.0),
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {"gpt-tiny": gpt_tiny, "gpt": published}
