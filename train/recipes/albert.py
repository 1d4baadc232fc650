"""ALBERT: masked n-grams and sentence-order prediction on pairs of segments.

Lan et al. 2019, section 4.1, and the released code: LAMB, peak learning rate 0.00176 after 3,125
steps, linear to zero over 125,000, batch 4096, length 512, weight decay 0.01, 15 % of the tokens
predicted. By default the released code predicts only 20 of 512 tokens; this recipe uses the paper's
15 %.
"""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.segment_pairs import OrderedPairs
from train.data.corpus.corpus import Corpus
from train.data.sources.source import Source
from train.objectives import masked
from train.objectives.sentence_order import SentenceOrder
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import albert
from zoo.tokenizers import AnyTokenizer


class AlbertRecipe(Recipe):
    """Recipes with pairs in their order or swapped; 15 % of the tokens are masked."""

    can_mask: ClassVar[bool] = True

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return train_tokenizer.albert(texts, self.config.vocab_size)

    def objective(self, tokenizer: AnyTokenizer) -> SentenceOrder:
        cls, sep, mask = train_tokenizer.special_ids(tokenizer)
        return SentenceOrder(
            vocab_size=tokenizer.get_vocab_size(),
            mask=mask,
            specials=(cls, sep),
            **masked.sizes(self.mask_rate, self.length),
        )

    def batches(self, tokenizer: AnyTokenizer) -> OrderedPairs:
        cls, sep, _ = train_tokenizer.special_ids(tokenizer)
        return OrderedPairs(length=self.length, cls=cls, sep=sep)

    def notes(self, source: Source, corpus: Corpus, tokenizer: AnyTokenizer) -> list[str]:
        return self.batches(tokenizer).notes(corpus)


def albert_tiny() -> Recipe:
    """Return `zoo pretrain albert-tiny`: one block applied four times, on the built-in corpus.

    Held-out perplexity of the masked tokens is about 680 (unigram model: 796); 55 % of the sentence
    orders are predicted correctly.
    """
    return _recipe(
        "albert-tiny",
        schedule=lambda steps: schedules.linear(5e-4, min(100, steps // 10), steps),
        optimizer=partial(optimizers.adamw, eps=1e-6, decay=0.01, clip=1.0),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def published(name: str) -> Recipe:
    """Return a published size with the paper's recipe, on lower-cased text."""
    return _recipe(
        name,
        schedule=lambda steps: schedules.bert_linear(1.76e-3, min(3125, steps // 10), steps),
        optimizer=partial(optimizers.lamb, eps=1e-6, decay=0.01, clip=1.0),
        steps=125_000,
        batch=4096,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name: str, **fields) -> AlbertRecipe:
    return AlbertRecipe(
        name=name,
        architecture="albert",
        config=albert.SIZES[name],
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "albert-tiny": albert_tiny,
    **{size: partial(published, size) for size in albert.SIZES if size != "albert-tiny"},
}
