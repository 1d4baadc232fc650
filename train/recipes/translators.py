"""Translators: sequence-to-sequence models that are trained on pairs of texts.

The tiny recipes learn to convert dates to ISO format, or the texts of `--source` and `--target`.
The published recipes:

- Sutskever et al. 2014, section 3.4: gradient descent with learning rate 0.7, 7.5 epochs, halved
  every half epoch after the fifth, batch 128; the gradient, a sum over the words of a row, is
  clipped at 5.
- Bahdanau et al. 2014, appendix B: Adadelta with epsilon 1e-6 and rho 0.95, batch 80, gradient
  clipping at 1, about five days.
- Luong et al. 2015, section 4.1: gradient descent with learning rate 1, 12 epochs, halved in every
  epoch after the eighth, batch 128, gradient clipping at 5, sentences of up to 50 words.
- Vaswani et al. 2017, section 5: Adam 0.9 / 0.98, epsilon 1e-9, 4,000 warm-up steps, then inverse
  square root, label smoothing 0.1, about 25,000 tokens per side.

Our loss is a mean over words. For recipes that sum over a row, the learning rate is multiplied by
the mean length of a row, taken as 25 words, and the clipping threshold divided by it. Epochs are
those of the papers' data: English to French (12 million pairs) or English to German (4.5 million).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

from train.data import train_tokenizer
from train.data.batches import length_buckets
from train.data.batches.length_buckets import LengthBuckets
from train.data.corpus.corpus import Corpus
from train.data.corpus.pair_corpus import END_OF_TEXT, PairCorpus
from train.data.sources import dates
from train.data.sources.parallel_text import shares_letters
from train.data.sources.source import Source
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.optimization import optimizers, schedules
from train.recipes.recipe import Config, Recipe, RecipeFactory
from zoo import registry
from zoo.models import transformer
from zoo.tokenizers import AnyTokenizer, Sides, token_id

WORDS = 25  # mean number of words per sentence
FRENCH, GERMAN = 12_000_000, 4_500_000  # pairs


class TranslatorConfig(Config, Protocol):
    """The config of a translator."""

    @property
    def start(self) -> int:
        """The id of the first decoder input."""
        ...


@dataclass(frozen=True, kw_only=True)
class TranslatorRecipe(Recipe):
    """Recipes with batches of pairs of similar length; the target is predicted from the source.

    Attributes:
      smoothing: Fraction of label smoothing.
    """

    source_kind: ClassVar[str] = "pairs"

    config: TranslatorConfig
    smoothing: float = 0.0

    def train_tokenizer(self, texts: Iterable[str]) -> AnyTokenizer:
        return train_tokenizer.pairs(texts, self.config.vocab_size)

    def objective(self, tokenizer: AnyTokenizer) -> SequenceToSequence:
        end = token_id(tokenizer, END_OF_TEXT)
        return SequenceToSequence(self.config.start, end, self.smoothing)

    def batches(self, tokenizer: AnyTokenizer) -> LengthBuckets:
        return LengthBuckets(length=self.length)

    def builtin_source(self) -> Source:
        return dates.read()

    def notes(self, source: Source, corpus: Corpus, tokenizer: AnyTokenizer) -> list[str]:
        assert isinstance(corpus, PairCorpus)
        notes = [length_buckets.too_long(corpus, self.length)]
        if not isinstance(tokenizer, Sides) and not shares_letters(source):
            notes.insert(
                0,
                "the two sides share no letters, so they divide the joint vocabulary between them: "
                "consider a larger --vocab-size",
            )
        return [note for note in notes if note]


class RecurrentTranslatorRecipe(TranslatorRecipe):
    """Recipes of translators with separate embeddings for source and target."""

    def separate_vocabularies(self) -> "SeparateVocabularies":
        return SeparateVocabularies(**vars(self))


class SeparateVocabularies(RecurrentTranslatorRecipe):
    """Recipes of translators with a separate vocabulary for each side."""

    def train_tokenizer(self, texts: Iterable[str]) -> Sides:
        return train_tokenizer.separate(texts, self.config.vocab_size)


def tiny(name: str, architecture: str, steps: int = 1500) -> TranslatorRecipe:
    """Return `zoo pretrain luong-tiny` or another tiny translator of the built-in dates.

    Training takes a few minutes. Exact matches on held-out dates: 98.40 % (seq2seq), 99.55 %
    (luong), 99.90 % (bahdanau, 600 steps), 99.85 % (transformer, 2,400 steps).
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


def small(name: str, architecture: str, peak: float) -> TranslatorRecipe:
    """Return a translator with about 4.35 million parameters, for tens of thousands of pairs.

    Training takes about four epochs of the 29,000 pairs of Multi30k: 11 to 20 minutes on two cores.
    """
    return _recipe(
        name,
        architecture,
        0.1,
        schedule=lambda steps: schedules.cosine(peak, min(400, steps // 10), steps, peak / 20),
        optimizer=partial(optimizers.adamw, b2=0.98, decay=0.0, clip=1.0),
        steps=3000,
        batch=16,
        length=64,
        evaluate_every=500,
        save_every=1000,
    )


def gradient_descent(
    name: str, architecture: str, pairs: int, peak: float, hold: float, every: float, epochs: float
) -> TranslatorRecipe:
    """Return a published size that is trained by gradient descent.

    The learning rate is constant for `hold` epochs, then halved every `every` epochs.
    """
    batch = 128
    steps = pairs // batch
    return _recipe(
        name,
        architecture,
        schedule=schedules.AnyLength(
            schedules.staircase(peak * WORDS, int(hold * steps), int(every * steps), 2.0)
        ),
        optimizer=partial(optimizers.sgd, clip=5.0 / WORDS),
        steps=int(epochs * steps),
        batch=batch,
        length=64,
    )


def bahdanau_published() -> TranslatorRecipe:
    """Return RNNsearch-50: batch 80, Adadelta; the paper's five days are taken as five epochs."""
    return _recipe(
        "bahdanau",
        "bahdanau",
        schedule=schedules.AnyLength(schedules.constant(1.0)),
        optimizer=optimizers.adadelta,
        steps=5 * FRENCH // 80,
        batch=80,
        length=64,
    )


def transformer_published(name: str, steps: int, average: int) -> TranslatorRecipe:
    """Return a size of the paper: about 25,000 tokens per side and step, checkpoint averaging."""
    config = transformer.SIZES[name]
    return _recipe(
        name,
        "transformer",
        0.1,
        schedule=schedules.AnyLength(
            schedules.inverse_square_root((config.width * 4000) ** -0.5, 4000)
        ),
        optimizer=partial(optimizers.adamw, b2=0.98, eps=1e-9, decay=0.0, clip=None),
        steps=steps,
        average=average,
        batch=96,
        length=256,
        dtype="bfloat16",
    )


def _recipe(name: str, architecture: str, smoothing: float = 0.0, **fields) -> TranslatorRecipe:
    family = TranslatorRecipe if architecture == "transformer" else RecurrentTranslatorRecipe
    return family(
        name=name,
        architecture=architecture,
        config=registry.named(architecture).SIZES[name],
        smoothing=smoothing,
        undecayed=(r"bias$",),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "seq2seq-tiny": partial(tiny, "seq2seq-tiny", "seq2seq"),
    "bahdanau-tiny": partial(tiny, "bahdanau-tiny", "bahdanau", 600),
    "luong-tiny": partial(tiny, "luong-tiny", "luong"),
    "transformer-tiny": partial(tiny, "transformer-tiny", "transformer", 2400),
    "seq2seq-small": partial(small, "seq2seq-small", "seq2seq", 2e-3),
    "bahdanau-small": partial(small, "bahdanau-small", "bahdanau", 2e-3),
    "luong-small": partial(small, "luong-small", "luong", 2e-3),
    "transformer-small": partial(small, "transformer-small", "transformer", 1.5e-3),
    "seq2seq": partial(gradient_descent, "seq2seq", "seq2seq", FRENCH, 0.7, 5, 0.5, 7.5),
    "bahdanau": bahdanau_published,
    "luong": partial(gradient_descent, "luong", "luong", GERMAN, 1.0, 8, 1, 12),
    "transformer-base": partial(transformer_published, "transformer-base", 100_000, 5),
    "transformer-big": partial(transformer_published, "transformer-big", 300_000, 20),
}
