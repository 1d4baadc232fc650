"""ByteNet: language models on windows of text, and translators of characters.

Kalchbrenner et al. 2016:

- Section 5, a language model of the characters of enwik8: Adam with a constant learning rate of
  3e-4 and a weight decay of 1e-4, windows of 500 characters, of which the first 100 are only
  context. `zoo evaluate --length 500 --stride 400` evaluates in that form.
- Section 6, English to German: Adam with a constant learning rate of 3e-4, and a vocabulary of
  characters for each side.

The rest is ours: batches of 32 rows, ten passes over the 90 million characters, five over the 4.5
million pairs, texts of fewer than 500 characters.

Departures: in training, the predictions of all 500 characters count; weight decay is that of AdamW.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Self

from train.data import vocabulary
from train.data.corpus.corpus import Corpus
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes import translators
from train.recipes.gpt2 import END, GPT2Recipe
from train.recipes.recipe import Recipe, RecipeFactory
from train.recipes.translators import GERMAN, TranslatorRecipe
from zoo.models import bytenet, bytenet_translator
from zoo.tokenizers import AnyTokenizer, Sides, Tokenizer, units


class CharacterRecipe(GPT2Recipe):
    """Recipes on characters; every document starts with `</s>`."""

    reads_words = False
    can_sample = False

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return vocabulary.tokenizer(texts, "character", vocab_size=self.config.vocab_size)

    def for_text(self, tokenizer: AnyTokenizer, corpus: Corpus) -> Self:
        config: Any = replace(self.config, vocab_size=tokenizer.get_vocab_size())
        return Recipe.for_text(replace(self, config=config), tokenizer, corpus)


def tiny() -> GPT2Recipe:
    """Return `zoo pretrain bytenet-tiny`: ten blocks of width 224 on the built-in corpus.

    Held-out perplexity is about 175 or 2.12 bits per byte (unigram model: 773 or 2.73).
    """
    return _recipe(
        "bytenet-tiny",
        GPT2Recipe,
        END,
        schedule=lambda steps: schedules.cosine(2e-3, min(50, steps // 10), steps, 2e-4),
        optimizer=partial(optimizers.adamw, b2=0.95, decay=0.1, clip=1.0),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def published() -> GPT2Recipe:
    """Return the paper's model of characters, which reports 1.31 bits per character of enwik8."""
    return _recipe(
        "bytenet",
        CharacterRecipe,
        units.END,
        schedule=schedules.AnyLength(schedules.constant(3e-4)),
        optimizer=partial(optimizers.adamw, decay=1e-4, clip=None),
        steps=56_000,
        batch=32,
        length=500,
    )


def _recipe(name: str, family: type[GPT2Recipe], end: str, **fields) -> GPT2Recipe:
    return family(
        name=name,
        architecture="bytenet",
        config=bytenet.SIZES[name],
        end_of_document=end,
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


class CharacterTranslatorRecipe(TranslatorRecipe):
    """Recipes of translators with a vocabulary of characters for each side."""

    def train_tokenizer(self, texts: Iterable[str]) -> Sides:
        texts, most = list(texts), self.config.vocab_size
        source, target = (
            vocabulary.tokenizer(side, "character", vocab_size=most)
            for side in (texts[::2], texts[1::2])  # they alternate
        )
        return Sides(source, target)

    def for_text(self, tokenizer: AnyTokenizer, corpus: Corpus) -> Self:
        config: Any = replace(self.config, vocab_size=tokenizer.get_vocab_size())
        return Recipe.for_text(replace(self, config=config), tokenizer, corpus)


def published_translator() -> CharacterTranslatorRecipe:
    """Return the paper's translator, which reports a BLEU of 23.75 on newstest2014."""
    name = "bytenet-translator"
    return CharacterTranslatorRecipe(
        name=name,
        architecture="bytenet_translator",
        config=bytenet_translator.SIZES[name],
        schedule=schedules.AnyLength(schedules.constant(3e-4)),
        optimizer=partial(optimizers.adamw, decay=0.0, clip=None),
        undecayed=(r"bias$",),
        steps=5 * GERMAN // 32,
        batch=32,
        length=500,
    )


RECIPES: dict[str, RecipeFactory] = {
    "bytenet-tiny": tiny,
    "bytenet": published,
    "bytenet-translator-tiny": partial(
        translators.tiny, "bytenet-translator-tiny", "bytenet_translator"
    ),
    "bytenet-translator": published_translator,
}
