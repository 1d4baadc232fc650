"""DistilBERT: half the layers of a BERT, taught by it.

Sanh et al. 2019 and the released code: Adam 0.9 / 0.98, epsilon 1e-6, 5e-4 after a twentieth of the
updates, then linear to zero, no decay, clipping at 5, rows of up to 512, 4000 in a batch, three
passes over Wikipedia and BooksCorpus (about 7 million rows). Without `--teacher` the same student
learns alone, from hidden words.
"""

from dataclasses import replace
from functools import partial

from train.data import train_tokenizer
from train.optimization import optimizers, schedules
from train.recipes.recipe import Recipe
from train.recipes.roberta import task
from zoo.models import distilbert, roberta


def distilbert_tiny() -> Recipe:
    """Half of bert-tiny: `zoo pretrain distilbert-tiny --teacher runs/bert-tiny`.

    Held-out perplexity of the hidden words is about 279, its teacher's 297; of the same student
    without a teacher 396, and of a unigram model 540.
    """
    return _recipe(
        "distilbert-tiny",
        "distilbert",
        distilbert.SIZES["distilbert-tiny"],
        schedule=lambda steps: schedules.linear(5e-4, steps // 20, steps),
        steps=400,
        batch=8,
        length=128,
        evaluate_every=200,
        save_every=200,
    )


def six_layers() -> Recipe:
    """The six-layer student of any BERT: `zoo pretrain distilbert-six-layers --teacher FOLDER`."""
    base = published("distilbert-six-layers", "distilbert", distilbert.Config())
    fit = lambda c: distilbert.Config(
        vocab_size=c.vocab_size,
        max_length=c.max_length,
        num_layers=6,
        num_heads=c.num_heads,
        width=c.width,
        mlp_width=c.mlp_width,
        head_width=c.head_width,
        dropout=c.dropout,
    )
    return replace(base, of_teacher=fit)


def published(name: str, architecture: str, config) -> Recipe:
    """A published size with the paper's recipe."""
    return _recipe(
        name,
        architecture,
        config,
        schedule=lambda steps: schedules.linear(5e-4, steps // 20, steps),
        steps=5_250,
        batch=4000,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name, architecture, config, **fields) -> Recipe:
    lowercase = name == "distilbert-tiny" or name.endswith("uncased")
    wordpiece = partial(train_tokenizer.wordpiece, lowercase=lowercase)
    return Recipe(
        name=name,
        architecture=architecture,
        config=config,
        make_tokenizer=train_tokenizer.roberta if architecture == "roberta" else wordpiece,
        end_of_document=None,
        task=task,
        optimizer=partial(optimizers.adamw, b1=0.9, b2=0.98, eps=1e-6, decay=0.0, clip=5.0),
        undecayed=(),
        **fields,
    )


RECIPES = {
    "distilbert-tiny": distilbert_tiny,
    "distilbert-six-layers": six_layers,
    **{
        size: partial(published, size, "distilbert", config)
        for size, config in distilbert.SIZES.items()
        if size != "distilbert-tiny"
    },
    "distilroberta-base": partial(
        published, "distilroberta-base", "roberta", roberta.SIZES["distilroberta-base"]
    ),
}
