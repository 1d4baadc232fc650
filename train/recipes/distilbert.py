"""DistilBERT: half the layers of a BERT, trained by distillation.

Sanh et al. 2019 and the released code: Adam 0.9 / 0.98, epsilon 1e-6, peak learning rate 5e-4 after
5 % of the steps, then linear to zero, no weight decay, gradient clipping at 5, length 512, batch
4000, three epochs of Wikipedia and BooksCorpus (about 7 million rows). Without `--teacher` the
student is trained by masked language modelling alone.
"""

from collections.abc import Iterable
from functools import partial
from typing import TypeVar

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.optimization import optimizers, schedules
from train.recipes.recipe import Config, RecipeFactory
from train.recipes.roberta import RobertaRecipe
from zoo.models import distilbert, roberta

R = TypeVar("R", bound=RobertaRecipe)


class DistilBertRecipe(RobertaRecipe):
    """Recipes with rows of whole sentences, as in RoBERTa, and BERT's vocabulary."""

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        lowercase = self.name == "distilbert-tiny" or self.name.endswith("uncased")
        return train_tokenizer.wordpiece(texts, self.config.vocab_size, lowercase)


class SixLayers(DistilBertRecipe):
    """A recipe of a student with the sizes of its teacher and six layers."""

    def student_config(self, teacher: Config) -> distilbert.Config:
        same = ("vocab_size", "max_length", "num_heads", "width", "mlp_width", "head_width")
        sizes = {name: getattr(teacher, name) for name in (*same, "dropout")}
        return distilbert.Config(num_layers=6, **sizes)


def distilbert_tiny() -> DistilBertRecipe:
    """Return `zoo pretrain distilbert-tiny --teacher runs/bert-tiny`: half the layers of bert-tiny.

    Held-out perplexity of the masked tokens is about 279 (teacher: 297; the same student without a
    teacher: 396; unigram model: 540).
    """
    return _recipe(
        "distilbert-tiny",
        "distilbert",
        distilbert.SIZES["distilbert-tiny"],
        DistilBertRecipe,
        schedule=lambda steps: schedules.linear(5e-4, steps // 20, steps),
        steps=400,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def six_layers() -> SixLayers:
    """Return `zoo pretrain distilbert-six-layers --teacher FOLDER`: six layers of any BERT."""
    return published("distilbert-six-layers", "distilbert", distilbert.Config(), SixLayers)


def published(name: str, architecture: str, config: Config, family: type[R]) -> R:
    """Return a published size with the paper's recipe."""
    return _recipe(
        name,
        architecture,
        config,
        family,
        schedule=lambda steps: schedules.linear(5e-4, steps // 20, steps),
        steps=5_250,
        batch=4000,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name: str, architecture: str, config: Config, family: type[R], **fields) -> R:
    return family(
        name=name,
        architecture=architecture,
        config=config,
        optimizer=partial(optimizers.adamw, b1=0.9, b2=0.98, eps=1e-6, decay=0.0, clip=5.0),
        undecayed=(),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "distilbert-tiny": distilbert_tiny,
    "distilbert-six-layers": six_layers,
    **{
        size: partial(published, size, "distilbert", config, DistilBertRecipe)
        for size, config in distilbert.SIZES.items()
        if size != "distilbert-tiny"
    },
    "distilroberta-base": partial(
        published,
        "distilroberta-base",
        "roberta",
        roberta.SIZES["distilroberta-base"],
        RobertaRecipe,
    ),
}
