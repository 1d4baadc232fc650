"""GPT-2: causal language modelling on windows of text.

The paper (Radford et al. 2019) states only batch 512 and length 1024. Learning rate, schedule and
weight decay are those of its well-known reproductions: AdamW 0.9 / 0.95, peak learning rate 6e-4
after 2,000 steps, cosine to a tenth of it, weight decay 0.1 on matrices, gradient clipping at 1.
Larger sizes use the smaller learning rates of GPT-3 (Brown et al. 2020, table 2.1).

A window begins anywhere in a document and has parts of its neighbours. With `--pack`, a row has
whole documents instead.
"""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.batches import BatchSource
from train.data.batches.packed_documents import PackedWindows
from train.data.batches.windows import Windows
from train.objectives.causal import Causal, PackedCausal
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import gpt2
from zoo.tokenizers import AnyTokenizer, end_of_document

END = "<|endoftext|>"


class GPT2Recipe(Recipe):
    """Recipes with windows of text; every document starts with the end-of-text token."""

    reads_words: ClassVar[bool] = True
    can_sample: ClassVar[bool] = True
    can_pack: ClassVar[bool] = True

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return train_tokenizer.byte_level_bpe(texts, self.config.vocab_size)

    def objective(self, tokenizer: AnyTokenizer) -> Causal:
        kind = Causal if self.pack is None else PackedCausal
        token = end_of_document(tokenizer, self.end_of_document or END)
        return kind(token, samples=self.samples)

    def batches(self, tokenizer: AnyTokenizer) -> BatchSource:
        if self.pack is not None:
            return PackedWindows(length=self.length, most=self.pack)
        return Windows(length=self.length)


def gpt2_tiny() -> Recipe:
    """Return `zoo pretrain gpt2-tiny`: four layers on the built-in corpus, 4 minutes on two cores.

    Held-out perplexity is about 190 or 2.15 bits per byte (unigram model: 773 or 2.73). The run
    covers the text only once, so dropout would only slow it down.
    """
    return _recipe(
        "gpt2-tiny",
        schedule=lambda steps: schedules.cosine(1e-3, min(50, steps // 10), steps, 1e-4),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def published(name: str, peak: float) -> Recipe:
    """Return a published size: 300,000 steps of half a million tokens."""
    return _recipe(
        name,
        schedule=lambda steps: schedules.cosine(peak, min(2000, steps // 10), steps, peak / 10),
        steps=300_000,
        batch=512,
        length=1024,
        dtype="bfloat16",
    )


def _recipe(name: str, **fields) -> GPT2Recipe:
    return GPT2Recipe(
        name=name,
        architecture="gpt2",
        config=gpt2.SIZES[name],
        end_of_document=END,
        optimizer=partial(optimizers.adamw, b1=0.9, b2=0.95, decay=0.1, clip=1.0),
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "gpt2-tiny": gpt2_tiny,
    "gpt2": partial(published, "gpt2", 6e-4),
    "gpt2-medium": partial(published, "gpt2-medium", 3e-4),
    "gpt2-large": partial(published, "gpt2-large", 2.5e-4),
    "gpt2-xl": partial(published, "gpt2-xl", 2e-4),
}
