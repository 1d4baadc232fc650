"""Recurrent language models, trained window by window with a state that is passed on.

Zaremba et al. 2014, section 4, and the released code: stochastic gradient descent at a rate of 1
for some epochs, then less in each; the gradient, summed over the window and averaged over the rows,
is clipped at 5 or 10. Ours is averaged over the window too, so the rate is times its length, and
the clipping a part of it. An epoch is that of the Penn Treebank: 929,589 tokens.
"""

from functools import partial

from train.data.batches.contiguous import ContiguousWindows
from train.objectives.causal_stateful import StatefulCausal
from train.optimization import optimizers, schedules
from train.recipes.gpt2 import END, GPT2Recipe
from train.recipes.recipe import RecipeFactory
from zoo.models import rnn
from zoo.tokenizers import AnyTokenizer, token_id

EPOCH = 929_589  # tokens


class RNNRecipe(GPT2Recipe):
    """Columns of a stream in which every document opens with the end-of-text token."""

    def objective(self, tokenizer: AnyTokenizer) -> StatefulCausal:
        return StatefulCausal(token_id(tokenizer, END))

    def batches(self, tokenizer: AnyTokenizer) -> ContiguousWindows:
        return ContiguousWindows(length=self.length)


def tiny(name: str) -> RNNRecipe:
    """Two layers of 256 on the built-in corpus: `zoo pretrain lstm-lm-tiny`, or gru-lm-tiny.

    In a minute or two their held-out perplexity is 189.9 (rnn), 179.6 (gru) and 268.5 (lstm), where
    a unigram model has 773.3.
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
    """A size of the paper: the rate stands for `hold` epochs, then falls by `factor` in each."""
    batch, length = fields["batch"], fields["length"]
    epoch = EPOCH // (batch * length)
    return _recipe(
        name,
        schedule=lambda steps: schedules.staircase(length, hold * epoch, epoch, factor),
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
