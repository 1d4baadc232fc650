"""T5: span corruption.

Raffel et al. 2020, section 3.1, and the released models: Adafactor without momentum or weight
decay, learning rate 0.01 for 10,000 steps, then 1 / sqrt(step), a million steps, batch 2048, length
512 (568 tokens before spans are removed). Version 1.1 was trained without dropout, with the same
recipe. With `--pack`, spans are removed from whole documents, and several of these share a row.
"""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.batches import BatchSource
from train.data.batches.packed_documents import PackedSpans
from train.data.batches.windows import Windows
from train.objectives.span_corruption import (
    PackedSpanCorruption,
    SpanCorruption,
    counts,
    packed_raw_length,
    packed_room,
    raw_length,
)
from train.optimization import optimizers, schedules
from train.recipes.recipe import Config, Recipe, RecipeFactory
from zoo.models import t5, t5_v1_1
from zoo.tokenizers import AnyTokenizer, token_id


class T5Recipe(Recipe):
    """Recipes with windows that have at most `length` tokens after spans are removed."""

    can_pack: ClassVar[bool] = True

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return train_tokenizer.t5(texts, self.config.vocab_size)

    def objective(self, tokenizer: AnyTokenizer) -> SpanCorruption:
        first_sentinel, end = self._first_sentinel(tokenizer), token_id(tokenizer, "</s>")
        if self.pack is not None:
            return PackedSpanCorruption(first_sentinel, end, self.length, self.pack)
        return SpanCorruption(first_sentinel, end)

    def _first_sentinel(self, tokenizer: AnyTokenizer) -> int:
        """Return the id of the first sentinel, from which the others count down.

        Raises:
          ValueError: If the tokenizer has too few sentinels, or their ids do not count down.
        """
        first = token_id(tokenizer, "<extra_id_0>")
        if tokenizer.token_to_id("<extra_id_1>") == first + 1:
            # ByT5 was trained with the last bytes as sentinels (Xue et al. 2021, section 3.1).
            return first - 1
        _, spans = counts(raw_length(self.length))
        for number in range(spans):
            if tokenizer.token_to_id(f"<extra_id_{number}>") != first - number:
                raise ValueError(
                    f"rows of {self.length} tokens have up to {spans} spans, but the tokenizer has "
                    f"{number} sentinels with falling ids: use a smaller --length, or another "
                    "--tokenizer"
                )
        return first

    def batches(self, tokenizer: AnyTokenizer) -> BatchSource:
        if self.pack is not None:
            return PackedSpans(
                length=self.length,
                most=self.pack,
                raw_length=raw_length(self.length),
                row_length=packed_raw_length(self.length),
                needed=partial(packed_room, self.length),
            )
        return Windows(length=raw_length(self.length), overlap=0)


def t5_tiny() -> Recipe:
    """Return `zoo pretrain t5-tiny`: four plus four layers on the built-in corpus, three minutes.

    The held-out loss is about 5.33 nats per target (unigram model: 6.02).
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


def published(name: str, architecture: str, config: Config) -> T5Recipe:
    """Return a published size with the paper's recipe."""
    return _recipe(
        name,
        architecture,
        config,
        schedule=schedules.AnyLength(schedules.held_inverse_square_root(0.01, 10_000)),
        steps=1_000_000,
        batch=2048,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name: str, architecture: str, config: Config, **fields) -> T5Recipe:
    return T5Recipe(
        name=name,
        architecture=architecture,
        config=config,
        optimizer=optimizers.adafactor,
        undecayed=(),
        reserved_tokens=r"<extra_id_\d+>",
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "t5-tiny": t5_tiny,
    **{
        size: partial(published, size, architecture, config)
        for architecture, release in (("t5", t5), ("t5_v1_1", t5_v1_1))
        for size, config in release.SIZES.items()
        if size != "t5-tiny"
    },
}
