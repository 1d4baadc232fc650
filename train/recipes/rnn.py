"""Recurrent language models, trained by truncated back-propagation through time.

Zaremba et al. 2014, section 4, and the released code: stochastic gradient descent with a learning
rate of 1 for some epochs, which then decreases in each epoch. The gradient, summed over the window
and averaged over the rows, is clipped at 5 or 10. Our gradient is also averaged over the window, so
the learning rate is multiplied by the length of the window and the clipping threshold divided by
it. Epochs are those of the Penn Treebank: 929,589 tokens.
"""

from functools import partial
from typing import ClassVar

from train.data.batches.contiguous import ContiguousWindows
from train.objectives.causal_stateful import StatefulCausal
from train.optimization import optimizers, schedules
from train.recipes.gpt2 import END, GPT2Recipe
from train.recipes.recipe import RecipeFactory
from zoo.models import rnn
from zoo.tokenizers import AnyTokenizer, end_of_document

EPOCH = 929_589  # tokens


class RNNRecipe(GPT2Recipe):
    """Recipes with contiguous batches; every document starts with the end-of-text token."""

    can_pack: ClassVar[bool] = False

    def objective(self, tokenizer: AnyTokenizer) -> StatefulCausal:
        return StatefulCausal(end_of_document(tokenizer, END), samples=self.samples)

    def batches(self, tokenizer: AnyTokenizer) -> ContiguousWindows:
        return ContiguousWindows(length=self.length)


def tiny(name: str) -> RNNRecipe:
    """Return `zoo pretrain lstm-lm-tiny` (or gru-, rnn-): two layers of 256 on the built-in corpus.

    After one or two minutes, held-out perplexity is 189.9 (rnn), 179.6 (gru) or 268.5 (lstm); that
    of a unigram model is 773.3.
    """
    return _recipe(
        name,
        schedule=lambda steps: schedules.cosine(2e-3, min(50, steps // 10), steps, 2e-4),
        optimizer=partial(optimizers.adamw, decay=0.01, clip=1.0),
        steps=600,
        batch=16,
        length=64,
        evaluate_every=200,
        save_every=200,
    )


def published(name: str, hold: int, factor: float, epochs: int, clip: float, **fields) -> RNNRecipe:
    """Return a size of the paper.

    The learning rate is constant for `hold` epochs, then divided by `factor` in every epoch.
    """
    batch, length = fields["batch"], fields["length"]
    epoch = EPOCH // (batch * length)
    return _recipe(
        name,
        schedule=schedules.AnyLength(schedules.staircase(length, hold * epoch, epoch, factor)),
        optimizer=partial(optimizers.sgd, clip=clip / length),
        steps=epochs * epoch,
        **fields,
    )


def _recipe(name: str, **fields) -> RNNRecipe:
    return RNNRecipe(
        name=name,
        architecture="rnn",
        config=rnn.SIZES[name],
        end_of_document=END,
        undecayed=(r"bias$",),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "rnn-lm-tiny": partial(tiny, "rnn-lm-tiny"),
    "gru-lm-tiny": partial(tiny, "gru-lm-tiny"),
    "lstm-lm-tiny": partial(tiny, "lstm-lm-tiny"),
    "lstm-lm-small": partial(published, "lstm-lm-small", 4, 2.0, 13, 5.0, batch=20, length=20),
    "lstm-lm-medium": partial(published, "lstm-lm-medium", 6, 1.2, 39, 5.0, batch=20, length=35),
    "lstm-lm-large": partial(published, "lstm-lm-large", 14, 1.15, 55, 10.0, batch=20, length=35),
}
