"""Fixed-window language models (Bengio et al. 2003).

Section 3.1: stochastic gradient descent, one example at a time, with a learning rate of
1e-3 / (1 + 1e-8 t) after t examples, and weight decay 1e-4 of weights, not of biases; 10 to 20
epochs of the Brown corpus, whose training part has 800,000 words. Departure: a step is a batch of
`batch` * `length` examples, so the learning rate of their mean is that many times larger.
"""

from functools import partial

import optax

from train.optimization import optimizers, schedules
from train.recipes.gpt2 import END, GPT2Recipe
from train.recipes.recipe import RecipeFactory
from zoo.models import fixed_window

EPOCH, EPOCHS = 800_000, 15
BATCH, LENGTH = 16, 16


def tiny() -> GPT2Recipe:
    """Return `zoo pretrain fixed-window-tiny`: a window of eight tokens, on the built-in corpus."""
    return _recipe(
        "fixed-window-tiny",
        schedule=lambda steps: schedules.cosine(2e-3, min(50, steps // 10), steps, 2e-4),
        optimizer=partial(optimizers.adamw, decay=0.01, clip=1.0),
        steps=600,
        batch=16,
        length=64,
        evaluate_every=200,
        save_every=200,
    )


def published(name: str) -> GPT2Recipe:
    """Return a size of the paper."""
    return _recipe(
        name,
        schedule=schedules.AnyLength(decaying(BATCH * LENGTH)),
        optimizer=partial(optimizers.sgd, decay=1e-4, clip=None),
        steps=EPOCHS * EPOCH // (BATCH * LENGTH),
        batch=BATCH,
        length=LENGTH,
    )


def decaying(examples: int) -> optax.Schedule:
    """Return the learning rate of the paper, for steps of a number of examples."""
    return lambda step: examples * 1e-3 / (1 + 1e-8 * examples * step)


def _recipe(name: str, **fields) -> GPT2Recipe:
    return GPT2Recipe(
        name=name,
        architecture="fixed_window",
        config=fixed_window.SIZES[name],
        end_of_document=END,
        undecayed=(r"bias$",),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "fixed-window-tiny": tiny,
    "fixed-window-brown": partial(published, "fixed-window-brown"),
    "fixed-window-brown-direct": partial(published, "fixed-window-brown-direct"),
    "fixed-window-brown-wide": partial(published, "fixed-window-brown-wide"),
}
