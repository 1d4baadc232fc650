"""word2vec: skip-gram and CBOW, by negative sampling or with a hierarchical softmax.

The settings are the defaults of the released program (Mikolov et al. 2013b): a window of 5, 5
negative samples from the distribution of words to the power of 3/4, sub-sampling at 1e-3, 5 epochs,
and a learning rate that falls linearly to a ten-thousandth; tiny recipes have 15 epochs. In place
of threads that update the tables without locks, every step reads `batch` rows of the text side by
side, in blocks of 32 words that share 32 negative samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import chex
import jax
import numpy as np
from flax import linen as nn

from train.data.batches.subsampled import SubsampledWords
from train.objectives.word_vectors import (
    CBOW,
    HierarchicalSoftmax,
    Inputs,
    NegativeSampling,
    Outputs,
    SkipGram,
    WordPrediction,
)
from train.optimization import rows, schedules
from train.recipes.recipe import RecipeFactory
from train.recipes.word_vectors import WordVectorRecipe
from zoo.layers.huffman import tree
from zoo.models import word2vec
from zoo.tokenizers import AnyTokenizer

INPUTS: Mapping[str, Callable[[int], Inputs]] = {"skip-gram": SkipGram, "cbow": CBOW}


@dataclass(frozen=True, kw_only=True)
class PredictionRecipe(WordVectorRecipe):
    """A recipe that predicts words from vectors.

    Attributes:
      context: What predicts: "skip-gram" or "cbow".
      negatives: Negative samples per pair; 0: a hierarchical softmax.
      sample: The frequency above which words are left out at random.
      power: That of the word counts in the distribution of negative samples.
      block_size: Words that are read before the tables change, in every row of a batch.
    """

    context: str = "skip-gram"
    negatives: int = 5
    sample: float = 1e-3
    power: float = 0.75
    block_size: int = 32

    def model_class(self) -> type[nn.Module]:
        return word2vec.CBOW if self.context == "cbow" else word2vec.SkipGram

    def objective(self, tokenizer: AnyTokenizer) -> WordPrediction:
        return WordPrediction(self.inputs(), self.block_size, self.window, self.outputs())

    def inputs(self) -> Inputs:
        """Return what words are predicted from."""
        return INPUTS[self.context](self.window)

    def outputs(self) -> Outputs:
        """Return how words are predicted."""
        if self.negatives:
            return NegativeSampling(self.negatives)
        return HierarchicalSoftmax(*map(jax.numpy.asarray, tree(self.counts)))

    def batches(self, tokenizer: AnyTokenizer) -> SubsampledWords:
        share = self.counts / self.counts.sum()
        some = np.maximum(share, 1e-300)
        keep = np.where(share > 0, np.sqrt(self.sample / some) + self.sample / some, 0)
        noise = np.cumsum(self.counts**self.power)
        return SubsampledWords(
            length=self.length,
            window=self.window,
            block_size=self.block_size,
            keep=np.minimum(keep, 1).astype(np.float32),
            line_ends=self.line_ends(tokenizer),
            negatives=self.block_size if self.negatives else 0,
            noise=noise / noise[-1],
        )

    def flops_per_step(self, params: chex.ArrayTree) -> float:
        """Return the FLOP of all logits of blocks, as if no word was left out."""
        logits = 2 * self.block_size + 2 * self.window
        return float(6 * self.config.width * logits * self.batch * self.length)

    def identity(self) -> dict[str, Any]:
        names = ("context", "negatives", "sample", "power", "block_size", "epochs")
        return super().identity() | {name: getattr(self, name) for name in names}


def recipe(name: str, size: str = "", **fields) -> PredictionRecipe:
    """Return a recipe of a size of zoo.models.word2vec."""
    settings: dict[str, Any] = {
        "architecture": "word2vec",
        "config": word2vec.SIZES[size or name],
        "optimizer": rows.sgd,
        "undecayed": (),
        "steps": 1,
        "epochs": 5,
        "batch": 4,
        "length": 8192,
    }
    return PredictionRecipe(name=name, **settings | fields)


def falling(peak: float) -> schedules.ScheduleFactory:
    """Return the learning rate of word2vec: linear to a ten-thousandth of the peak."""
    return lambda steps: schedules.linear(peak, 0, steps, peak * 1e-4)


def skip_gram_tiny() -> PredictionRecipe:
    """Return `zoo pretrain skip-gram-tiny`: 100 wide, 15 epochs for a small text."""
    return recipe("skip-gram-tiny", schedule=falling(0.025), epochs=15)


def word2vec_tiny() -> PredictionRecipe:
    """Return `zoo pretrain word2vec-tiny`: CBOW, which is the default of the program."""
    return recipe("word2vec-tiny", schedule=falling(0.05), context="cbow", epochs=15)


def tree_tiny(context: str) -> PredictionRecipe:
    """Return `zoo pretrain skip-gram-hs-tiny` (or cbow-): with a hierarchical softmax.

    Every pair changes the root of the tree, so few words may be read before the tables change.
    """
    return recipe(
        f"{context}-hs-tiny",
        "skip-gram-tiny",
        schedule=falling(0.025 if context == "skip-gram" else 0.05),
        context=context,
        negatives=0,
        epochs=15,
        optimizer=rows.damped_sgd,
        block_size=8,
        batch=1,
    )


def text8() -> PredictionRecipe:
    """Return the demonstration of the program: CBOW, 200 wide, on 17 million words of text8."""
    return recipe(
        "word2vec-text8",
        schedule=falling(0.05),
        context="cbow",
        window=8,
        negatives=25,
        sample=1e-4,
        epochs=15,
    )


def google_news() -> PredictionRecipe:
    """Return CBOW as the vectors of 100 billion words of Google News were trained.

    The authors name the width, 3 million words and phrases, and negative sampling; the rest is from
    the program's script for large texts. Phrases are words of the text that "_" joins.
    """
    return recipe(
        "word2vec-google-news",
        schedule=falling(0.05),
        context="cbow",
        window=10,
        negatives=10,
        min_count=10,
        sample=1e-5,
        epochs=3,
    )


RECIPES: dict[str, RecipeFactory] = {
    "word2vec-tiny": word2vec_tiny,
    "skip-gram-tiny": skip_gram_tiny,
    "word2vec-text8": text8,
    "word2vec-google-news": google_news,
    "skip-gram-hs-tiny": partial(tree_tiny, "skip-gram"),
    "cbow-hs-tiny": partial(tree_tiny, "cbow"),
}
