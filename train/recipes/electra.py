"""ELECTRA: a small generator replaces tokens of a text, the discriminator detects them.

Clark et al. 2020, appendix A and table 6, and the released code: AdamW without bias correction,
epsilon 1e-6, weight decay 0.01, gradient clipping at 1, a line from the peak to zero, times the
warm-up of 10,000 steps.

    size    peak        steps  batch   length   masked
    small   5e-4    1,000,000    128      128     15 %
    base    2e-4      766,000    256      512     15 %
    large   2e-4      400,000   2048      512     25 %

With `--pack`, a row has whole documents in place of two consecutive segments.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.batches import BatchSource
from train.data.batches.packed_documents import PackedSentences
from train.data.batches.segment_pairs import AdjacentPairs
from train.objectives.replaced_token import ReplacedToken
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import electra
from zoo.tokenizers import AnyTokenizer


@dataclass(frozen=True, kw_only=True)
class ElectraRecipe(Recipe):
    """Recipes with consecutive segments; 19 predictions of 128, 79 of 512, as in the released code.

    Attributes:
      mask_rate: Fraction of the tokens that is masked for the generator.
    """

    can_pack: ClassVar[bool] = True
    can_mask: ClassVar[bool] = True

    mask_rate: float

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return train_tokenizer.wordpiece(texts, self.config.vocab_size)

    def objective(self, tokenizer: AnyTokenizer) -> ReplacedToken:
        cls, sep, mask = train_tokenizer.special_ids(tokenizer)
        return ReplacedToken(
            vocab_size=tokenizer.get_vocab_size(),
            mask=mask,
            specials=(cls, sep),
            num_predictions=int((self.mask_rate + 0.005) * self.length),
            rate=self.mask_rate,
        )

    def batches(self, tokenizer: AnyTokenizer) -> BatchSource:
        cls, sep, _ = train_tokenizer.special_ids(tokenizer)
        if self.pack is not None:
            return PackedSentences(length=self.length, most=self.pack, cls=cls, sep=sep)
        return AdjacentPairs(length=self.length, cls=cls, sep=sep)


def electra_tiny() -> Recipe:
    """Return `zoo pretrain electra-tiny`: three layers on the built-in corpus, 2.5 minutes.

    On held-out text, the discriminator has an accuracy of 87.4 % and a loss of 0.362. Always
    predicting "original" has an accuracy of 87.0 %, and a loss of 0.386 with the best constant
    probability. The generator has no layers and predicts by frequency (the "unigram" of the paper's
    figure 3). In such a short run, a generator with layers learns as fast as the discriminator,
    which then detects nothing.
    """
    return _recipe(
        "electra-tiny",
        0.15,
        schedule=lambda steps: schedules.linear(1e-3, min(100, steps // 10), steps),
        optimizer=partial(optimizers.adamw, b2=0.98, eps=1e-6, decay=0.01, clip=1.0),
        steps=1700,
        batch=16,
        length=64,
        evaluate_every=850,
        save_every=850,
    )


def published(name: str, mask_rate: float, peak: float, **fields) -> ElectraRecipe:
    """Return a published size with the paper's recipe, on lower-cased text."""
    return _recipe(
        name,
        mask_rate,
        schedule=lambda steps: schedules.electra_linear(peak, min(10_000, steps // 10), steps),
        optimizer=partial(optimizers.adamw_bert, eps=1e-6, decay=0.01, clip=1.0),
        dtype="bfloat16",
        **fields,
    )


def _recipe(name: str, mask_rate: float, **fields) -> ElectraRecipe:
    return ElectraRecipe(
        name=name,
        architecture="electra",
        config=electra.SIZES[name],
        mask_rate=mask_rate,
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "electra-tiny": electra_tiny,
    "electra-small": partial(
        published, "electra-small", 0.15, 5e-4, steps=1_000_000, batch=128, length=128
    ),
    "electra-base": partial(
        published, "electra-base", 0.15, 2e-4, steps=766_000, batch=256, length=512
    ),
    "electra-large": partial(
        published, "electra-large", 0.25, 2e-4, steps=400_000, batch=2048, length=512
    ),
}
