"""ELMo: language models of both directions on whole words, which are read as bytes.

Peters et al. 2018, section 3.4, and the released code: Adagrad with a learning rate of 0.2 and
accumulators that start at 1, gradients clipped at 10, a sampled softmax with 8,192 negatives, rows
of 20 words, 128 of them on each of three GPUs, ten epochs of the 1B Word Benchmark, which has
768,648,884 words. There the gradient is that of the mean loss times the length of a row. Ours is
that of the mean, so the clipping threshold is divided by the length, and the accumulators start at
1 divided by its square, which gives the same updates.

Departures: a text is read as it stands, line by line, where the paper shuffles sentences; a word
outside of the vocabulary is read as `<unk>` in training, while the released code reads its bytes.
"""

from functools import partial
from typing import ClassVar

import numpy as np

from train.data.batches.both_directions import WindowsOfBothDirections
from train.objectives.both_directions import BothDirectionsOfWords
from train.optimization import optimizers, schedules
from train.recipes.recipe import RecipeFactory
from train.recipes.word_language_models import WordLanguageModelRecipe
from zoo.models import elmo
from zoo.tokenizers import AnyTokenizer, end_of_document, sides, word_bytes
from zoo.tokenizers.units import END, LINE_END

EPOCH, EPOCHS = 768_648_884, 10  # words
BATCH, LENGTH = 3 * 128, 20


class ELMoRecipe(WordLanguageModelRecipe):
    """Recipes of both directions; lines are sentences, and every document starts with `</s>`."""

    can_sample: ClassVar[bool] = True

    def objective(self, tokenizer: AnyTokenizer) -> BothDirectionsOfWords:
        ids = sides(tokenizer).source.get_vocab()
        words = sorted(ids, key=ids.__getitem__)
        characters_VC = word_bytes.spell_vocabulary(words, begin=END, end=LINE_END)
        end = end_of_document(tokenizer, END)
        return BothDirectionsOfWords(end, self.samples, characters_VC.astype(np.uint16))

    def batches(self, tokenizer: AnyTokenizer) -> WindowsOfBothDirections:
        end = end_of_document(tokenizer, END)
        return WindowsOfBothDirections(length=self.length, end_of_document=end)


def tiny() -> ELMoRecipe:
    """Return `zoo pretrain elmo-tiny`: two layers of 256 cells for each direction, three epochs.

    A step takes 0.3 s on one core, so WikiText-2 takes 50 minutes, and the built-in text a quarter
    of an hour.
    """
    return _recipe(
        "elmo-tiny",
        schedule=lambda steps: schedules.cosine(2e-3, min(200, steps // 10), steps, 1e-4),
        optimizer=partial(optimizers.adamw, decay=0.01, clip=1.0),
        epochs=3,
        steps=9790,  # those of WikiText-2
        batch=32,
        length=20,
        samples=2048,
        evaluate_every=800,
        save_every=800,
    )


def published(name: str) -> ELMoRecipe:
    """Return a published size."""
    clip, accumulator = 10.0 / LENGTH, 1.0 / LENGTH**2
    return _recipe(
        name,
        schedule=schedules.AnyLength(schedules.constant(0.2)),
        optimizer=partial(optimizers.adagrad, initial_accumulator=accumulator, clip=clip),
        steps=EPOCHS * EPOCH // (BATCH * LENGTH),
        batch=BATCH,
        length=LENGTH,
        samples=8192,
    )


def _recipe(name: str, **fields) -> ELMoRecipe:
    return ELMoRecipe(
        name=name,
        architecture="elmo",
        config=elmo.SIZES[name],
        end_of_document=END,
        undecayed=(r"bias$",),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "elmo-tiny": tiny,
    "elmo-small": partial(published, "elmo-small"),
    "elmo-medium": partial(published, "elmo-medium"),
    "elmo-original": partial(published, "elmo-original"),
}
