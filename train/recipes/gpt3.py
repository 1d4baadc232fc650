"""GPT-3: causal language modelling on windows of text.

Brown et al. 2020, https://arxiv.org/abs/2005.14165, table 2.1 and appendix B: Adam 0.9 / 0.95 with
epsilon 1e-8, gradient clipping at 1, weight decay 0.1, 300 billion tokens in rows of 2048. The
learning rate rises over the first 375 million tokens, falls by a cosine to a tenth at 260 billion
tokens, and stays there.

Departures: the batch size is that of the table from the first step, where the paper raises it from
32,000 tokens over the first 4 to 12 billion. Documents are not sampled by the quality of their
source: the mixture is that of the text that you give.
"""

from functools import partial

from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.gpt2 import END, GPT2Recipe
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import gpt3

LENGTH = 2048
TOKENS, COSINE_TOKENS, WARMUP_TOKENS = 300e9, 260e9, 375e6


def gpt3_tiny() -> Recipe:
    """Return `zoo pretrain gpt3-tiny`: four layers on the built-in corpus.

    The network and the run are those of `gpt2-tiny`, except that two of the four blocks attend to
    32 tokens only. Held-out perplexity is 187 or 2.14 bits per byte (unigram model: 773 or 2.73).
    """
    return _recipe(
        "gpt3-tiny",
        schedule=lambda steps: schedules.cosine(1e-3, min(50, steps // 10), steps, 1e-4),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def published(name: str, peak: float, batch: int) -> Recipe:
    """Return a published size: 300 billion tokens in batches of `batch` rows."""
    warmup = round(WARMUP_TOKENS / (batch * LENGTH))

    def schedule(steps):
        decay_steps = max(round(steps * COSINE_TOKENS / TOKENS), 1)
        return schedules.cosine(peak, min(warmup, steps // 10), decay_steps, peak / 10)

    return _recipe(
        name,
        schedule=schedule,
        steps=round(TOKENS / (batch * LENGTH)),
        batch=batch,
        length=LENGTH,
        dtype="bfloat16",
    )


def _recipe(name: str, **fields) -> GPT2Recipe:
    return GPT2Recipe(
        name=name,
        architecture="gpt3",
        config=gpt3.SIZES[name],
        end_of_document=END,
        optimizer=partial(optimizers.adamw, b1=0.9, b2=0.95, eps=1e-8, decay=0.1, clip=1.0),
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


# Batches of 0.5, 1, 2 and 3.2 million tokens, in rows, rounded up to a multiple of 64.
RECIPES: dict[str, RecipeFactory] = {
    "gpt3-tiny": gpt3_tiny,
    "gpt3-small": partial(published, "gpt3-small", 6e-4, 256),
    "gpt3-medium": partial(published, "gpt3-medium", 3e-4, 256),
    "gpt3-large": partial(published, "gpt3-large", 2.5e-4, 256),
    "gpt3-xl": partial(published, "gpt3-xl", 2e-4, 512),
    "gpt3-2.7b": partial(published, "gpt3-2.7b", 1.6e-4, 512),
    "gpt3-6.7b": partial(published, "gpt3-6.7b", 1.2e-4, 1024),
    "gpt3-13b": partial(published, "gpt3-13b", 1e-4, 1024),
    "gpt3-175b": partial(published, "gpt3-175b", 0.6e-4, 1600),
}
