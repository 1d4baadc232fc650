"""BERT: masked language modelling and next-sentence prediction on pairs of segments.

Devlin et al. 2019, appendix A.2, and the released code: AdamW without bias correction, peak
learning rate 1e-4 after 10,000 steps, linear to zero over a million, batch 256, weight decay 0.01,
dropout 0.1. The paper uses length 128 for 90 % of the steps and 512 for the rest. A recipe has one
length, 128, so the rest is a second run.

With `--pack`, a row has whole documents in place of a pair of segments, and there is no next
sentence to predict: the model is a `BertLM`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from flax import linen as nn
from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.batches import BatchSource
from train.data.batches.packed_documents import PackedSentences
from train.data.batches.segment_pairs import NextSegmentPairs
from train.data.corpus.corpus import Corpus
from train.data.sources.source import Source
from train.objectives import masked
from train.objectives.masked import MaskedLanguageModeling, WholeWordMasking
from train.objectives.next_sentence import NextSentence, WholeWordNextSentence
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import bert
from zoo.tokenizers import AnyTokenizer

# The objectives without the next sentence.
ALONE: dict[type[NextSentence], type[MaskedLanguageModeling]] = {
    NextSentence: MaskedLanguageModeling,
    WholeWordNextSentence: WholeWordMasking,
}


@dataclass(frozen=True, kw_only=True)
class BertRecipe(Recipe):
    """Recipes with pairs of segments; 15 % of the tokens are masked (20 of 128, 77 of 512).

    Attributes:
      masking: The objective, which masks single tokens or whole words.
    """

    can_pack: ClassVar[bool] = True
    can_mask: ClassVar[bool] = True

    masking: type[NextSentence] = NextSentence

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        lowercase = self.name.startswith(SMALL) or "uncased" in self.name
        return train_tokenizer.wordpiece(texts, self.config.vocab_size, lowercase)

    def model_class(self) -> type[nn.Module]:
        return super().model_class() if self.pack is None else bert.BertLM

    def objective(self, tokenizer: AnyTokenizer) -> MaskedLanguageModeling:
        cls, sep, mask = train_tokenizer.special_ids(tokenizer)
        kind = self.masking if self.pack is None else ALONE[self.masking]
        return kind(
            vocab_size=tokenizer.get_vocab_size(),
            mask=mask,
            specials=(cls, sep),
            **masked.sizes(self.mask_rate, self.length),
        )

    def batches(self, tokenizer: AnyTokenizer) -> BatchSource:
        cls, sep, _ = train_tokenizer.special_ids(tokenizer)
        if self.pack is not None:
            return PackedSentences(length=self.length, most=self.pack, cls=cls, sep=sep)
        return NextSegmentPairs(length=self.length, cls=cls, sep=sep)

    def notes(self, source: Source, corpus: Corpus, tokenizer: AnyTokenizer) -> list[str]:
        batches = self.batches(tokenizer)
        if isinstance(batches, NextSegmentPairs):
            return batches.notes(corpus)
        return super().notes(source, corpus, tokenizer)


def bert_tiny(masking: type[NextSentence] = NextSentence) -> BertRecipe:
    """Return `zoo pretrain bert-tiny`: four layers on the built-in corpus, 10 minutes on two cores.

    Held-out perplexity of the masked tokens is about 300 (unigram model: 540); 67 % of the
    next-sentence labels are predicted correctly.
    """
    return _recipe(
        "bert-tiny",
        masking,
        schedule=lambda steps: schedules.linear(3e-4, min(100, steps // 10), steps),
        steps=1200,
        batch=16,
        length=128,
        evaluate_every=400,
        save_every=400,
    )


def bert_shallow(masking: type[NextSentence] = NextSentence) -> BertRecipe:
    r"""Return `zoo pretrain bert-shallow`: two narrow layers for ten megabytes, such as WikiText-2.

        zoo pretrain bert-shallow --text wiki.train.tokens.gz --dev wiki.valid.tokens.gz \
            --separator "\n \n = "

    Held-out perplexity of the masked tokens is 39.5 on WikiText-2 (unigram model: 637); 77 % of the
    next-sentence labels are predicted correctly. Training takes 28 minutes on two cores.
    """
    return _recipe(
        "bert-shallow",
        masking,
        schedule=lambda steps: schedules.linear(1e-3, min(500, steps // 10), steps),
        steps=12_500,
        batch=16,
        length=128,
        evaluate_every=12_500,
        save_every=2500,
    )


def bert_shallow_masked() -> BertRecipe:
    r"""Return `zoo pretrain bert-shallow-masked`: bert-shallow, but for what a text teaches faster.

    A row has whole documents without a next sentence to predict, 40 % of the tokens are masked
    (Wettig et al. 2023, https://arxiv.org/abs/2202.08005), the optimizer is Muon, and weights are
    initialized in proportion to 1 / sqrt(width). train/recipes/README.md has the trials.

    Held-out perplexity of the masked tokens is 38.7 on WikiText-2 (unigram model: 637). Training
    takes 43 minutes on one shared core.
    """
    config = bert.SIZES["bert-shallow"]
    recipe = _recipe(
        "bert-shallow",
        NextSentence,
        schedule=lambda steps: schedules.linear(3e-3, min(500, steps // 10), steps),
        pack=16,
        mask_rate=0.4,
        steps=9000,
        batch=16,
        length=128,
        evaluate_every=9000,
        save_every=2250,
    )
    return replace(
        recipe,
        name="bert-shallow-masked",
        config=replace(config, init_std=config.width**-0.5),
        optimizer=partial(optimizers.muon, decay=0.01, clip=1.0),
    )


def published(size: str, masking: type[NextSentence] = NextSentence) -> BertRecipe:
    """Return a published size with the paper's recipe; "uncased" sizes lower-case the text."""
    return _recipe(
        size,
        masking,
        schedule=lambda steps: schedules.bert_linear(1e-4, min(10_000, steps // 10), steps),
        steps=1_000_000,
        batch=256,
        length=128,
        dtype="bfloat16",
    )


def _recipe(size: str, masking: type[NextSentence], **fields) -> BertRecipe:
    return BertRecipe(
        name=size if masking is NextSentence else size + WHOLE_WORD,
        architecture="bert",
        config=bert.SIZES[size],
        masking=masking,
        optimizer=partial(optimizers.adamw_bert, eps=1e-6, decay=0.01, clip=1.0),
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


SMALL = ("bert-tiny", "bert-shallow")
WHOLE_WORD = "-whole-word-masking"
RECIPES: dict[str, RecipeFactory] = {
    "bert-tiny": bert_tiny,
    "bert-tiny" + WHOLE_WORD: partial(bert_tiny, WholeWordNextSentence),
    "bert-shallow": bert_shallow,
    "bert-shallow-masked": bert_shallow_masked,
    **{size: partial(published, size) for size in bert.SIZES if size not in SMALL},
    **{
        size + WHOLE_WORD: partial(published, size, WholeWordNextSentence)
        for size in ("bert-large-uncased", "bert-large-cased")
    },
}
