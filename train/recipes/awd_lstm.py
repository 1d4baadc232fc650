"""AWD-LSTM (Merity et al. 2017) and the language model of ULMFiT (Howard and Ruder 2018).

Section 5 of the paper and the released code: stochastic gradient descent with a constant learning
rate of 30, clipping at 0.25 and weight decay 1.2e-6 of all parameters, in windows of about 70
tokens. The learning rate of a step is scaled by the length of its window (4.1). The weights are
averaged after the held-out loss of an epoch is worse than the best of all but the last five (3).

The model of WikiText-103 is that of ULMFiT, with the settings of its released code: Adam with
0.8 / 0.99 and a slanted triangular learning rate.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

from train.data.batches.variable_windows import VariableWindows
from train.data.corpus.corpus import Corpus
from train.objectives.regularized_causal import RegularizedCausal
from train.optimization import optimizers, schedules
from train.optimization.averaging import NonMonotonicAveraging
from train.recipes.recipe import RecipeFactory
from train.recipes.word_language_models import WordLanguageModelRecipe
from zoo.models import awd_lstm
from zoo.tokenizers import AnyTokenizer, end_of_document
from zoo.tokenizers.units import END


@dataclass(frozen=True, kw_only=True)
class AWDLSTMRecipe(WordLanguageModelRecipe):
    """Recipes with windows of varying length; a run is evaluated after every epoch."""

    can_sample: ClassVar[bool] = True

    def objective(self, tokenizer: AnyTokenizer) -> RegularizedCausal:
        config: Any = self.config
        return RegularizedCausal(
            end_of_document(tokenizer, END),
            config.activation_penalty,
            config.temporal_penalty,
            samples=self.samples,
        )

    def batches(self, tokenizer: AnyTokenizer) -> VariableWindows:
        return VariableWindows(length=self.length)

    def for_text(self, tokenizer: AnyTokenizer, corpus: Corpus) -> Self:
        recipe = super().for_text(tokenizer, corpus)
        lengths = self.batches(tokenizer).lengths(corpus, self.batch, self.seed)
        if self.epochs is not None:
            recipe = replace(recipe, steps=max(1, round(self.epochs * lengths.steps)))
        factors = lengths.first(recipe.steps) / self.length
        return replace(
            recipe,
            schedule=schedules.scaled(self.schedule, factors),
            evaluate_every=lengths.steps,
            save_every=lengths.steps,
        )


def tiny() -> AWDLSTMRecipe:
    """Return `zoo pretrain awd-lstm-tiny`: three epochs, for a text of the size of WikiText-2.

    A step of one core takes about a second, so WikiText-2 takes about 40 minutes with a vocabulary
    of 10,000 words. The published learning rate needs many more epochs, so this is AdamW.
    """
    return _recipe(
        "awd-lstm-tiny",
        schedule=lambda steps: schedules.cosine(4e-3, min(100, steps // 10), steps, 4e-5),
        optimizer=partial(optimizers.adamw, b2=0.99, decay=1.2e-6, clip=0.25),
        batch=40,
        epochs=3,
    )


def published(name: str, batch: int, epochs: int) -> AWDLSTMRecipe:
    """Return a model of the paper."""
    return _recipe(
        name,
        schedule=schedules.AnyLength(schedules.constant(30.0)),
        optimizer=partial(optimizers.sgd, decay=1.2e-6, clip=0.25),
        averaging=NonMonotonicAveraging(patience=5),
        batch=batch,
        epochs=epochs,
    )


def wikitext_103() -> AWDLSTMRecipe:
    """Return the pretraining of ULMFiT, whose paper has no number of epochs."""
    return _recipe(
        "awd-lstm-wikitext-103",
        schedule=lambda steps: schedules.slanted_triangular(1e-3, steps),
        optimizer=partial(optimizers.adamw, b1=0.8, b2=0.99, decay=1e-7, clip=0.25),
        batch=64,
        epochs=12,
    )


def _recipe(name: str, **fields) -> AWDLSTMRecipe:
    return AWDLSTMRecipe(
        name=name,
        architecture="awd_lstm",
        config=awd_lstm.SIZES[name],
        end_of_document=END,
        undecayed=(),
        steps=1,  # of an epoch, until the text is known
        length=70,
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "awd-lstm-tiny": tiny,
    "awd-lstm-ptb": partial(published, "awd-lstm-ptb", 20, 500),
    "awd-lstm-wikitext-2": partial(published, "awd-lstm-wikitext-2", 80, 750),
    "awd-lstm-wikitext-103": wikitext_103,
}
