"""T5: spans cut out of a text, and written again.

Raffel et al. 2020, section 3.1, and the released models: Adafactor without momentum or decay, a
rate of 1 / sqrt(step), 0.01 at most, a million updates of 2048 rows of 512 (568 tokens before spans
are cut out). Version 1.1 was trained without dropout, with the same recipe.
"""

from functools import partial

from train.data import train_tokenizer
from train.data.batches import windows
from train.objectives import span_corruption
from train.objectives.span_corruption import Spans
from train.optimization import optimizers, schedules
from train.recipes.recipe import Recipe, Task
from zoo.models import t5, t5_v1_1


def task(tokenizer, config, length) -> Task:
    """Windows of so many tokens that `length` are left when spans are cut out."""
    sentinel, end = map(tokenizer.token_to_id, ("<extra_id_0>", "</s>"))
    raw = span_corruption.raw_length(length)
    # The length of a recipe is that of the inputs; a window has the raw one.
    cut = lambda make: (
        lambda corpus, length, *rest, **more: make(corpus, raw, *rest, overlap=0, **more)
    )
    return Task(
        Spans(sentinel, end),
        cut(windows.train),
        cut(windows.evaluate),
        words="token",
        predicts_all=False,
        level=lambda words: span_corruption.unigram_level(words, raw),
    )


def t5_tiny() -> Recipe:
    """Four layers and four, on the built-in corpus, three minutes: `zoo pretrain t5-tiny`.

    The held-out loss is about 5.33 nats a target; guessing by frequency gives 6.02.
    """
    return _recipe(
        "t5-tiny",
        "t5",
        t5.SIZES["t5-tiny"],
        schedule=lambda steps: schedules.linear(1e-2, min(50, steps // 10), steps),
        steps=320,
        batch=8,
        length=128,
        evaluate_every=160,
        save_every=160,
    )


def published(name: str, architecture: str, config) -> Recipe:
    """A published size with the paper's recipe."""
    return _recipe(
        name,
        architecture,
        config,
        schedule=lambda steps: schedules.inverse_square_root(0.01, 10_000),
        steps=1_000_000,
        batch=2048,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name, architecture, config, **fields) -> Recipe:
    return Recipe(
        name=name,
        architecture=architecture,
        config=config,
        make_tokenizer=train_tokenizer.t5,
        end_of_document=None,
        task=task,
        optimizer=lambda schedule, decay_mask: optimizers.adafactor(schedule),
        undecayed=(),
        reserved=r"<extra_id_\d+>",
        **fields,
    )


RECIPES = {
    "t5-tiny": t5_tiny,
    **{
        size: partial(published, size, architecture, config)
        for architecture, release in (("t5", t5), ("t5_v1_1", t5_v1_1))
        for size, config in release.SIZES.items()
        if size != "t5-tiny"
    },
}
