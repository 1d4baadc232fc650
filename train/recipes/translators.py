"""Translators: one text written for another, whatever the two are.

The tiny ones learn to write dates in digits, or what `--source` and `--target` hold. The published
recipes:

- Sutskever et al. 2014, section 3.4: gradient descent at 0.7, halved every half epoch after five of
  seven and a half, rows of 128, clipping of the gradient, a sum over the words of a row, at 5.
- Bahdanau et al. 2014, appendix B: Adadelta with epsilon 1e-6 and rho 0.95, rows of 80, clipping
  at 1, some five days.
- Luong et al. 2015, section 4.1: gradient descent at 1, twelve epochs, halved in each after eight,
  rows of 128, clipping at 5, sentences of up to 50 words.
- Vaswani et al. 2017, section 5: Adam 0.9, 0.98, epsilon 1e-9, four thousand updates of warm-up and
  then the inverse square root, label smoothing of 0.1, about 25,000 tokens a side.

Ours is the mean over words, so a rate for sums over a row is times the mean length of a row, here
taken as 25 words, and its clipping a part of it. An epoch is that of the English to French, 12
million pairs, or English to German, 4.5 million, that the papers took.
"""

from functools import partial

from train.data import train_tokenizer
from train.data.batches import length_buckets
from train.data.reading import END, PAIRS
from train.objectives.sequence_to_sequence import Translated
from train.optimization import optimizers, schedules
from train.recipes.recipe import Recipe, Task
from zoo.models import bahdanau, luong, seq2seq, transformer

WORDS = 25  # of a sentence
FRENCH, GERMAN = 12_000_000, 4_500_000  # pairs


def task(smoothing: float, tokenizer, config, length) -> Task:
    """Pairs of about one length; what is predicted is the target."""
    return Task(
        Translated(config.start, tokenizer.token_to_id(END), smoothing),
        length_buckets.train,
        length_buckets.evaluate,
        words="token",
        predicts_all=False,
    )


def tiny(name: str, architecture, steps: int = 1500) -> Recipe:
    """Learns the built-in dates in a few minutes: `zoo pretrain luong-tiny`, or another one.

    Held-out dates that are right to the last token: 98.40 % with one vector, 99.55 % with Luong's
    attention, 99.90 % with Bahdanau's in 600 steps, 99.85 % with the Transformer, which has more.
    """
    return _recipe(
        name,
        architecture,
        schedule=lambda steps: schedules.cosine(2e-3, min(100, steps // 10), steps, 2e-4),
        optimizer=partial(optimizers.adamw, decay=0.0, clip=1.0),
        steps=steps,
        batch=16,
        length=48,
        evaluate_every=500,
        save_every=500,
    )


def small(name: str, architecture, rate: float) -> Recipe:
    """About 4.35 million parameters whichever it is, for some ten thousands of pairs.

    Some four passes over the 29,000 of Multi30k, 11 to 20 minutes of two cores.
    """
    return _recipe(
        name,
        architecture,
        0.1,
        schedule=lambda steps: schedules.cosine(rate, min(400, steps // 10), steps, rate / 20),
        optimizer=partial(optimizers.adamw, b2=0.98, decay=0.0, clip=1.0),
        steps=3000,
        batch=16,
        length=64,
        evaluate_every=500,
        save_every=1000,
    )


def gradient_descent(
    name: str, architecture, pairs: int, rate: float, hold: float, every: float, epochs: float
) -> Recipe:
    """A published size: the rate stands for `hold` epochs, then halves after `every`."""
    batch = 128
    steps = pairs // batch
    return _recipe(
        name,
        architecture,
        schedule=lambda _: schedules.staircase(
            rate * WORDS, int(hold * steps), int(every * steps), 2.0
        ),
        optimizer=partial(optimizers.sgd, clip=5.0 / WORDS),
        steps=int(epochs * steps),
        batch=batch,
        length=64,
    )


def bahdanau_published() -> Recipe:
    """RNNsearch-50: rows of 80, Adadelta; five days are taken as five epochs."""
    return _recipe(
        "bahdanau",
        bahdanau,
        schedule=lambda steps: schedules.constant(1.0),
        optimizer=optimizers.adadelta,
        steps=5 * FRENCH // 80,
        batch=80,
        length=64,
    )


def transformer_published(name: str, steps: int, average: int) -> Recipe:
    """A size of the paper: updates of about 25,000 tokens a side, the mean of the last models."""
    config = transformer.SIZES[name]
    return _recipe(
        name,
        transformer,
        0.1,
        schedule=lambda steps: schedules.inverse_square_root((config.width * 4000) ** -0.5, 4000),
        optimizer=partial(optimizers.adamw, b2=0.98, eps=1e-9, decay=0.0, clip=None),
        steps=steps,
        average=average,
        batch=96,
        length=256,
        dtype="bfloat16",
    )


def _recipe(name, architecture, smoothing: float = 0.0, **fields) -> Recipe:
    return Recipe(
        name=name,
        architecture=architecture.__name__.rpartition(".")[2],
        config=architecture.SIZES[name],
        make_tokenizer=train_tokenizer.pairs,
        end_of_document=None,
        task=partial(task, smoothing),
        undecayed=(r"bias$",),
        reading=PAIRS,
        separate=None if architecture is transformer else train_tokenizer.separate,
        **fields,
    )


RECIPES = {
    "seq2seq-tiny": partial(tiny, "seq2seq-tiny", seq2seq),
    "bahdanau-tiny": partial(tiny, "bahdanau-tiny", bahdanau, 600),
    "luong-tiny": partial(tiny, "luong-tiny", luong),
    "transformer-tiny": partial(tiny, "transformer-tiny", transformer, 2400),
    "seq2seq-small": partial(small, "seq2seq-small", seq2seq, 2e-3),
    "bahdanau-small": partial(small, "bahdanau-small", bahdanau, 2e-3),
    "luong-small": partial(small, "luong-small", luong, 2e-3),
    "transformer-small": partial(small, "transformer-small", transformer, 1.5e-3),
    "seq2seq": partial(gradient_descent, "seq2seq", seq2seq, FRENCH, 0.7, 5, 0.5, 7.5),
    "bahdanau": bahdanau_published,
    "luong": partial(gradient_descent, "luong", luong, GERMAN, 1.0, 8, 1, 12),
    "transformer-base": partial(transformer_published, "transformer-base", 100_000, 5),
    "transformer-big": partial(transformer_published, "transformer-big", 300_000, 20),
}
