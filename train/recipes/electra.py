"""ELECTRA: a small generator replaces tokens of a text, the discriminator detects them.

Clark et al. 2020, appendix A and table 6, and the released code: AdamW without bias correction,
epsilon 1e-6, decay 0.01, clipping at 1, 10,000 steps of warm-up, linear to zero. Small: 5e-4, a
million steps of 128 rows of 128. Base: 2e-4, 766,000 of 256 rows of 512. Large: 2e-4, 400,000 of
2048 rows of 512, and a quarter of the tokens instead of 15 %.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.segment_pairs import AdjacentPairs
from train.objectives.replaced_token import ReplacedToken
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import electra
from zoo.tokenizers import AnyTokenizer


@dataclass(frozen=True, kw_only=True)
class ElectraRecipe(Recipe):
    """Pairs that follow each other: 19 predictions at 128, 79 at 512, as in the released code.

    Attributes:
      mask_rate: The part of the tokens that is masked for the generator.
    """

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

    def batches(self, tokenizer: AnyTokenizer) -> AdjacentPairs:
        cls, sep, _ = train_tokenizer.special_ids(tokenizer)
        return AdjacentPairs(length=self.length, cls=cls, sep=sep)


def electra_tiny() -> Recipe:
    """Three layers on the built-in corpus, two and a half minutes: `zoo pretrain electra-tiny`.

    On held-out text the discriminator is right for 87.4 % of the tokens, with a loss of 0.362;
    always predicting "original" would give 87.0 %, and 0.386 for knowing how often that is right.
    Its generator has no layers and predicts by frequency, the "unigram" of the paper's figure 3: in
    so short a time one with layers learns as much as the discriminator, which then finds nothing.
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
    """A published size with the paper's recipe, on lower-cased text."""
    return _recipe(
        name,
        mask_rate,
        schedule=lambda steps: schedules.linear(peak, min(10_000, steps // 10), steps),
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
