"""Sequence autoencoders, whose encoder starts a classifier of texts (Dai and Le 2015).

https://arxiv.org/abs/1511.01432, section 2: the model reads a text into its last state and predicts
the text from that state. Every line of `--text` is a text of its own, as in files of unlabelled
examples. Then `zoo finetune runs/sequence-autoencoder-tiny --task classification` starts from the
encoder and its embedding.
"""

from functools import partial
from typing import ClassVar

from train.data.batches import length_buckets
from train.data.corpus.corpus import Corpus
from train.data.corpus.pair_corpus import PairCorpus
from train.data.sources import builtin, parallel_text
from train.data.sources.parallel_text import PairSource
from train.data.sources.source import Source
from train.optimization import optimizers, schedules
from train.recipes.recipe import RecipeFactory
from train.recipes.translators import TranslatorRecipe
from zoo.models import seq2seq
from zoo.tokenizers import AnyTokenizer


class AutoencoderRecipe(TranslatorRecipe):
    """Recipes of sequence autoencoders: every line of a text is its own target."""

    source_kind: ClassVar[str] = "text"

    def examples(self, source: Source) -> PairSource:
        return parallel_text.copies(source)

    def builtin_source(self) -> Source:
        return builtin.read()

    def notes(self, source: Source, corpus: Corpus, tokenizer: AnyTokenizer) -> list[str]:
        assert isinstance(corpus, PairCorpus)
        note = length_buckets.too_long(corpus, self.length)
        return [note] if note else []


def tiny() -> AutoencoderRecipe:
    """Return `zoo pretrain sequence-autoencoder-tiny`: lines of up to 63 tokens.

    The optimizer is that of the other tiny recipes of encoders and decoders.
    """
    return AutoencoderRecipe(
        name="sequence-autoencoder-tiny",
        architecture="seq2seq",
        config=seq2seq.SIZES["sequence-autoencoder-tiny"],
        undecayed=(r"bias$",),
        schedule=lambda steps: schedules.cosine(2e-3, min(100, steps // 10), steps, 2e-4),
        optimizer=partial(optimizers.adamw, decay=0.0, clip=1.0),
        steps=1500,
        batch=16,
        length=64,
        evaluate_every=500,
        save_every=500,
    )


RECIPES: dict[str, RecipeFactory] = {"sequence-autoencoder-tiny": tiny}
