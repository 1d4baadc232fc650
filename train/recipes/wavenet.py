"""WaveNet: causal modelling of windows of text, or of sound.

The paper (van den Oord et al. 2016) states no settings of its training. Those of sound are from a
well-known reproduction, ibab/tensorflow-wavenet: Adam with a constant learning rate of 1e-3 and an
epsilon of 1e-4, and 100,000 steps of one window of 100,000 samples. Departure: it predicts only
where the whole receptive field lies in the window; here every sample of a window is predicted.
Those of text are GPT-2's.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import chex
from flax import linen as nn
from tokenizers import Tokenizer

from train.data.sources import melody
from train.data.sources.sound import SoundSource
from train.data.sources.source import Source
from train.objectives.causal_sound import CausalSound
from train.optimization import optimizers, schedules
from train.recipes.gpt2 import END, GPT2Recipe
from train.recipes.recipe import RecipeFactory, flops_per_step
from zoo.models import wavenet
from zoo.tokenizers import AnyTokenizer, mu_law

BIASES = (r"bias$",)


class WaveNetRecipe(GPT2Recipe):
    """Recipes of text."""

    def flops_per_step(self, params: chex.ArrayTree) -> float:
        config: Any = self.config
        # The output layer reads the skip connections.
        config = replace(config, width=config.skip_width)
        return flops_per_step(params, replace(self, config=config))


class WaveNetSoundRecipe(WaveNetRecipe):
    """Recipes of sound, whose tokens are the levels of samples, without one between recordings."""

    source_kind: ClassVar[str] = "sound"
    unit: ClassVar[str] = "samples"
    reads_words: ClassVar[bool] = False
    can_sample: ClassVar[bool] = False
    can_pack: ClassVar[bool] = False

    def model_class(self) -> type[nn.Module]:
        return wavenet.WaveNetSound

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return mu_law.tokenizer()

    def objective(self, tokenizer: AnyTokenizer) -> CausalSound:
        return CausalSound()

    def builtin_source(self) -> SoundSource:
        config: Any = self.config
        return melody.read(rate=config.rate)

    def examples(self, source: Source) -> Source:
        assert isinstance(source, SoundSource)
        config: Any = self.config
        rate = config.rate
        if source.rate != rate:
            raise ValueError(
                f"the sound has {source.rate} samples per second, but {self.name} is for {rate}: "
                f"resample it, or train with --config rate={source.rate}"
            )
        return source


def tiny() -> WaveNetRecipe:
    """Return `zoo pretrain wavenet-tiny`: eight blocks, 2 minutes of the built-in corpus.

    Held-out perplexity is about 228 or 2.23 bits per byte (unigram model: 773 or 2.73). Dilations
    up to 64 instead of 8 change it by less than 1 %.
    """
    return _recipe(
        "wavenet-tiny",
        schedule=lambda steps: schedules.cosine(2e-3, min(50, steps // 10), steps, 2e-4),
        steps=600,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def text() -> WaveNetRecipe:
    """Return `zoo pretrain wavenet`: a model of text about as large as the smallest GPT-2."""
    return _recipe(
        "wavenet",
        schedule=lambda steps: schedules.cosine(6e-4, min(2000, steps // 10), steps, 6e-5),
        steps=300_000,
        batch=512,
        length=1024,
        dtype="bfloat16",
    )


def sound_tiny() -> WaveNetSoundRecipe:
    """Return `zoo pretrain wavenet-sound-tiny`: 16 blocks, a minute of a melody at 8 kHz.

    It takes 4 minutes on two cores. The held-out loss is about 1.35 nats per sample (unigram
    model: 5.09, 3-grams with Witten-Bell smoothing: 2.78).
    """
    return _sound(
        "wavenet-sound-tiny",
        schedule=lambda steps: schedules.cosine(4e-3, min(50, steps // 10), steps, 4e-4),
        optimizer=partial(optimizers.adamw, b2=0.95, decay=0.0, clip=1.0),
        steps=2000,
        batch=4,
        length=1024,
        evaluate_every=500,
        save_every=500,
    )


def sound() -> WaveNetSoundRecipe:
    """Return `zoo pretrain wavenet-sound`: the reproduction, for recordings at 16 kHz."""
    return _sound(
        "wavenet-sound",
        schedule=schedules.AnyLength(schedules.constant(1e-3)),
        optimizer=partial(optimizers.adamw, eps=1e-4, decay=0.0, clip=None),
        steps=100_000,
        batch=1,
        length=100_000,
    )


def _recipe(name: str, **fields) -> WaveNetRecipe:
    return WaveNetRecipe(
        name=name,
        architecture="wavenet",
        config=wavenet.SIZES[name],
        end_of_document=END,
        optimizer=partial(optimizers.adamw, b2=0.95, decay=0.1, clip=1.0),
        undecayed=BIASES,
        **fields,
    )


def _sound(name: str, **fields) -> WaveNetSoundRecipe:
    return WaveNetSoundRecipe(
        name=name, architecture="wavenet", config=wavenet.SIZES[name], undecayed=BIASES, **fields
    )


RECIPES: dict[str, RecipeFactory] = {
    "wavenet-tiny": tiny,
    "wavenet": text,
    "wavenet-sound-tiny": sound_tiny,
    "wavenet-sound": sound,
}
