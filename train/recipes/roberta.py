"""RoBERTa: masked language modelling with dynamic masks, in rows of whole sentences.

Liu et al. 2019, sections 2.3 and 5 and table 9: Adam 0.9 / 0.98, epsilon 1e-6, 500,000 steps, batch
8192, length 512, weight decay 0.01, no gradient clipping. Peak learning rate 6e-4 after 24,000
steps for the base size and 4e-4 after 30,000 for the large one, then linear to zero. As in the
released code, weight decay applies to every parameter.

With `--pack`, no document attends to another, as with DOC-SENTENCES (section 4.2); unlike there, a
row may have more than one document.
"""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.batches import BatchSource
from train.data.batches.full_sentences import FullSentences
from train.data.batches.packed_documents import PackedSentences
from train.objectives import masked
from train.objectives.masked import MaskedLanguageModeling
from train.objectives.objective import Objective
from train.optimization import optimizers, schedules
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import roberta
from zoo.tokenizers import AnyTokenizer


class RobertaRecipe(Recipe):
    """Recipes with rows of whole sentences; 15 % of the tokens are masked (77 of 512)."""

    can_pack: ClassVar[bool] = True
    can_mask: ClassVar[bool] = True

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return train_tokenizer.roberta(texts, self.config.vocab_size)

    def objective(self, tokenizer: AnyTokenizer) -> Objective:
        return self.masking(tokenizer)

    def masking(self, tokenizer: AnyTokenizer) -> MaskedLanguageModeling:
        """Return the masked language modelling objective."""
        cls, sep, mask = train_tokenizer.special_ids(tokenizer)
        return MaskedLanguageModeling(
            vocab_size=tokenizer.get_vocab_size(),
            mask=mask,
            specials=(cls, sep),
            **masked.sizes(self.mask_rate, self.length),
        )

    def batches(self, tokenizer: AnyTokenizer) -> BatchSource:
        cls, sep, _ = train_tokenizer.special_ids(tokenizer)
        if self.pack is not None:
            return PackedSentences(length=self.length, most=self.pack, cls=cls, sep=sep)
        return FullSentences(length=self.length, cls=cls, sep=sep)


def roberta_tiny() -> Recipe:
    """Return `zoo pretrain roberta-tiny`: four layers on the built-in corpus, three minutes.

    Held-out perplexity of the masked tokens is about 540 (unigram model: 772).
    """
    return _recipe(
        "roberta-tiny",
        schedule=lambda steps: schedules.linear(5e-4, min(100, steps // 10), steps),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def published(name: str, peak: float, warmup: int) -> Recipe:
    """Return a published size with the paper's recipe."""
    return _recipe(
        name,
        schedule=lambda steps: schedules.linear(peak, min(warmup, steps // 10), steps),
        steps=500_000,
        batch=8192,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name: str, **fields) -> RobertaRecipe:
    return RobertaRecipe(
        name=name,
        architecture="roberta",
        config=roberta.SIZES[name],
        optimizer=partial(optimizers.adamw, b1=0.9, b2=0.98, eps=1e-6, decay=0.01, clip=None),
        undecayed=(),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "roberta-tiny": roberta_tiny,
    "roberta-base": partial(published, "roberta-base", 6e-4, 24_000),
    "roberta-large": partial(published, "roberta-large", 4e-4, 30_000),
}
