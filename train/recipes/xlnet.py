"""XLNet: permutation language modelling on streams of text with memory.

Yang et al. 2019, appendix A.4, for the large size: 4e-4 after 40,000 updates, linear to zero over
500,000, batch 8192 of 512, decay 0.01, epsilon 1e-6, no bias correction, memory 384, a sixth of the
tokens predicted. The paper trains the base size like BERT and gives no more; it has the same recipe
here, at BERT's batch.
"""

from functools import partial

from train.data import train_tokenizer
from train.data.batches import permutation_rows
from train.objectives.permutation import Permuted
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, Task
from zoo.models import xlnet


def task(tokenizer, config, length) -> Task:
    """Half of a row joins the memory of the next; at 512, memory 384 and 85 predictions."""
    cls, sep = map(tokenizer.token_to_id, ("<cls>", "<sep>"))
    drawn = {"reuse": length // 2, "cls": cls, "sep": sep}
    return Task(
        Permuted(
            sep=sep,
            cls=cls,
            num_predictions=length // 6,
            reuse=length // 2,
            memory=length * 3 // 4,
            perm_size=length // 2,
        ),
        partial(permutation_rows.train, **drawn),
        partial(permutation_rows.evaluate, **drawn),
        words="token",
        predicts_all=False,
    )


def xlnet_tiny() -> Recipe:
    """Four layers on the built-in corpus, seven minutes on two cores: `zoo pretrain xlnet-tiny`.

    Held-out perplexity is about 550, where a unigram model has 823.
    """
    return _recipe(
        "xlnet-tiny",
        schedule=lambda steps: schedules.linear(3e-4, min(100, steps // 10), steps),
        steps=900,
        batch=8,
        length=128,
        evaluate_every=300,
        save_every=300,
    )


def published(name: str, batch: int) -> Recipe:
    """A published size with the paper's recipe."""
    return _recipe(
        name,
        schedule=lambda steps: schedules.linear(4e-4, min(40_000, steps // 10), steps),
        steps=500_000,
        batch=batch,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name, **fields) -> Recipe:
    return Recipe(
        name=name,
        architecture="xlnet",
        config=xlnet.SIZES[name],
        make_tokenizer=train_tokenizer.unigram,
        end_of_document="<eod>",
        task=task,
        optimizer=partial(optimizers.adamw_bert, eps=1e-6, decay=0.01, clip=1.0),
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


RECIPES = {
    "xlnet-tiny": xlnet_tiny,
    "xlnet-base-cased": partial(published, "xlnet-base-cased", 256),
    "xlnet-large-cased": partial(published, "xlnet-large-cased", 8192),
}
