"""ELECTRA: a small generator puts words into a text, the discriminator finds them.

Clark et al. 2020, appendix A and table 6, and the released code: AdamW without bias correction,
epsilon 1e-6, decay 0.01, clipping at 1, 10,000 updates of warm-up, linear to zero. Small: 5e-4, a
million updates of 128 rows of 128. Base: 2e-4, 766,000 of 256 rows of 512. Large: 2e-4, 400,000 of
2048 rows of 512, and a quarter of the tokens instead of 15 %.
"""

from functools import partial

from train.data import train_tokenizer
from train.data.batches import segment_pairs
from train.objectives.replaced_token import Replaced
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, Task
from zoo.models import electra


def task(rate: float, tokenizer, config, length) -> Task:
    """Pairs that follow each other: 19 predictions at 128, 79 at 512, as in the released code."""
    cls, sep, mask = train_tokenizer.special(tokenizer)
    drawn = {"cls": cls, "sep": sep, "pair": segment_pairs.following}
    return Task(
        Replaced(
            vocab_size=tokenizer.get_vocab_size(),
            mask=mask,
            specials=(cls, sep),
            num_predictions=int((rate + 0.005) * length),
            rate=rate,
        ),
        partial(segment_pairs.train, **drawn),
        partial(segment_pairs.evaluate, **drawn),
        words="masked",
        predicts_all=False,
    )


def electra_tiny() -> Recipe:
    """Three layers on the built-in corpus, two and a half minutes: `zoo pretrain electra-tiny`

    On held-out text the discriminator is right of 87.4 % of the tokens, with a loss of 0.362; that
    of always answering "original" would be 87.0 %, with 0.386 for knowing how often it is right.
    Its generator has no layers and guesses by frequency, the "unigram" of the paper's figure 3: in
    so short a time one with layers learns as much as the discriminator, which then finds nothing.
    """
    return _recipe(
        "electra-tiny",
        0.15,
        schedule=lambda steps: schedules.linear(1e-3, min(100, steps // 10), steps),
        optimizer=partial(optimizers.adamw, b2=0.98, eps=1e-6, decay=0.01, clip=1.0),
        steps=1700,
        batch=16,
        length=64,
        evaluate_every=850,
        save_every=850,
    )


def published(name: str, rate: float, peak: float, **fields) -> Recipe:
    """A published size with the paper's recipe, on lower-cased text."""
    return _recipe(
        name,
        rate,
        schedule=lambda steps: schedules.linear(peak, min(10_000, steps // 10), steps),
        optimizer=partial(optimizers.adamw_bert, eps=1e-6, decay=0.01, clip=1.0),
        dtype="bfloat16",
        **fields,
    )


def _recipe(name, rate: float, **fields) -> Recipe:
    return Recipe(
        name=name,
        architecture="electra",
        config=electra.SIZES[name],
        make_tokenizer=partial(train_tokenizer.wordpiece, lowercase=True),
        end_of_document=None,
        task=partial(task, rate),
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


RECIPES = {
    "electra-tiny": electra_tiny,
    "electra-small": partial(
        published, "electra-small", 0.15, 5e-4, steps=1_000_000, batch=128, length=128
    ),
    "electra-base": partial(
        published, "electra-base", 0.15, 2e-4, steps=766_000, batch=256, length=512
    ),
    "electra-large": partial(
        published, "electra-large", 0.25, 2e-4, steps=400_000, batch=2048, length=512
    ),
}
