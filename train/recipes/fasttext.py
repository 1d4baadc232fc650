"""fastText: skip-gram and CBOW whose words are the means of their character n-grams.

The settings are the defaults of the released program, which Bojanowski et al. 2017, section 4.3,
state too: 5 negative samples from the distribution of words to the power of 1/2, sub-sampling at
1e-4, n-grams of 3 to 6 characters, 5 epochs, and a learning rate of 0.05 that falls linearly to 0.
The blocks are those of train/recipes/word2vec.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from train.data.batches.subsampled import SubsampledWords
from train.objectives.word_vectors import Inputs, SubwordCBOW, SubwordSkipGram
from train.optimization import rows, schedules
from train.recipes.recipe import RecipeFactory
from train.recipes.word2vec import PredictionRecipe
from zoo.models import fasttext
from zoo.tokenizers import AnyTokenizer, sides, subwords


@dataclass(frozen=True, kw_only=True)
class FastTextRecipe(PredictionRecipe):
    """A recipe that predicts words from the rows of a word and of its n-grams."""

    config: fasttext.Config
    sample: float = 1e-4
    power: float = 0.5

    def model_class(self) -> type[nn.Module]:
        return fasttext.FastText

    def inputs(self) -> Inputs:
        kind = SubwordCBOW if self.context == "cbow" else SubwordSkipGram
        return kind(self.window)

    def batches(self, tokenizer: AnyTokenizer) -> SubsampledWords:
        c, ids = self.config, np.arange(self.config.vocab_size)
        words = [sides(tokenizer).source.id_to_token(number) or "" for number in ids.tolist()]
        of_words = subwords.word_rows(words, ids, c.vocab_size, c.buckets, c.min_n, c.max_n)
        batches = super().batches(tokenizer)
        sizes, share = np.diff(of_words.first), batches.keep * self.counts
        mean = np.average(sizes, weights=share)
        deviation = np.sqrt(np.average((sizes - mean) ** 2, weights=share))
        return replace(
            batches,
            subwords=of_words,
            # Hardly any block has more than that.
            subwords_per_word=math.ceil(mean + 6 * deviation / math.sqrt(self.block_size)),
            whole_context=self.context == "cbow",
        )

    def initial_params(self, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        most = np.iinfo(np.int32).max
        counts = np.minimum(self.counts, most).astype(np.int32)
        return super().initial_params(shapes) | {"counts": counts}


def recipe(name: str, **fields: Any) -> FastTextRecipe:
    """Return a recipe of a size of zoo.models.fasttext."""
    settings: dict[str, Any] = {
        "architecture": "fasttext",
        "config": fasttext.SIZES[name],
        "optimizer": rows.damped_sgd,
        "schedule": lambda steps: schedules.linear(0.05, 0, steps),
        "undecayed": (),
        "steps": 1,
        "epochs": 5,
        "batch": 4,
        "length": 8192,
    }
    return FastTextRecipe(name=name, **settings | fields)


def tiny() -> FastTextRecipe:
    """Return `zoo pretrain fasttext-tiny`: 100 wide, 50,000 buckets, 15 epochs for a small text."""
    return recipe("fasttext-tiny", epochs=15)


def wiki() -> FastTextRecipe:
    """Return skip-gram as the vectors of Wikipedia were trained: 300 wide, 2 million buckets."""
    return recipe("fasttext-wiki")


def crawl() -> FastTextRecipe:
    """Return CBOW as the vectors of 157 languages were trained (Grave et al. 2018).

    https://arxiv.org/abs/1802.06893, section 4.1: n-grams of 5 characters, a window of 5, and 10
    negative samples.
    """
    return recipe("fasttext-crawl", context="cbow", negatives=10)


RECIPES: dict[str, RecipeFactory] = {
    "fasttext-tiny": tiny,
    "fasttext-wiki": wiki,
    "fasttext-crawl": crawl,
}
