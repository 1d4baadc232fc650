"""WaveNet: causal language modelling on windows of text.

The paper (van den Oord et al. 2016) states no settings of its training.
"""

from functools import partial

from train.optimization import optimizers, schedules
from train.recipes.gpt2 import END, GPT2Recipe
from train.recipes.recipe import RecipeFactory
from zoo.models import wavenet


def tiny() -> GPT2Recipe:
    """Return `zoo pretrain wavenet-tiny`: eight blocks on the built-in corpus."""
    return _recipe(
        "wavenet-tiny",
        schedule=lambda steps: schedules.cosine(2e-3, min(50, steps // 10), steps, 2e-4),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def _recipe(name: str, **fields) -> GPT2Recipe:
    return GPT2Recipe(
        name=name,
        architecture="wavenet",
        config=wavenet.SIZES[name],
        end_of_document=END,
        optimizer=partial(optimizers.adamw, b2=0.95, decay=0.1, clip=1.0),
        undecayed=(r"bias$",),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {"wavenet-tiny": tiny}
