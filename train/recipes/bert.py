"""BERT: masked words and next sentences on pairs of segments.

Devlin et al. 2019, appendix A.2, and the released code: AdamW without bias correction, 1e-4 after
10,000 updates, linear to zero over a million, batch 256, decay 0.01, dropout 0.1. The paper takes
length 128 for nine tenths of the updates and 512 for the rest; a recipe has one length, 128, so the
rest is a second run.
"""

import math
from functools import partial

from train.data import train_tokenizer
from train.data.batches import segment_pairs
from train.objectives.next_sentence import MaskedPairs, WholeWordMaskedPairs
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, Task
from zoo.models import bert


def task(objective, tokenizer, config, length) -> Task:
    """Pairs of segments, of which 15 % of the tokens are to be predicted: 20 at 128, 77 at 512."""
    cls, sep, mask = train_tokenizer.special(tokenizer)
    drawn = {"cls": cls, "sep": sep, "pair": segment_pairs.next_segment}
    return Task(
        objective(
            vocab_size=tokenizer.get_vocab_size(),
            mask=mask,
            specials=(cls, sep),
            num_predictions=math.ceil(0.15 * length),
        ),
        partial(segment_pairs.train, **drawn),
        partial(segment_pairs.evaluate, **drawn),
        words="masked",
        predicts_all=False,
    )


def bert_tiny(objective=MaskedPairs) -> Recipe:
    """Four layers on the built-in corpus, ten minutes on two cores: `zoo pretrain bert-tiny`.

    Held-out perplexity of the hidden words is about 300, where a unigram model has 540; 67 % of the
    next segments are told right.
    """
    return _recipe(
        "bert-tiny",
        objective,
        schedule=lambda steps: schedules.linear(3e-4, min(100, steps // 10), steps),
        steps=1200,
        batch=16,
        length=128,
        evaluate_every=400,
        save_every=400,
    )


def bert_shallow(objective=MaskedPairs) -> Recipe:
    """Two narrow layers for a text of ten megabytes, such as WikiText-2: `zoo pretrain bert-shallow
    --text wiki.train.tokens.gz --dev wiki.valid.tokens.gz --separator "\\n \\n = "`.

    There, held-out perplexity of the hidden words is 39.5, where a unigram model has 637; 77 % of
    the next segments are told right. 28 minutes of two cores.
    """
    return _recipe(
        "bert-shallow",
        objective,
        schedule=lambda steps: schedules.linear(1e-3, min(500, steps // 10), steps),
        steps=12_500,
        batch=16,
        length=128,
        evaluate_every=12_500,
        save_every=2500,
    )


def published(size: str, objective=MaskedPairs) -> Recipe:
    """A published size with the paper's recipe, on lower-cased text where its name says uncased."""
    return _recipe(
        size,
        objective,
        schedule=lambda steps: schedules.bert_linear(1e-4, min(10_000, steps // 10), steps),
        steps=1_000_000,
        batch=256,
        length=128,
        dtype="bfloat16",
    )


def _recipe(size, objective, **fields) -> Recipe:
    lowercase = size in SMALL or size.endswith("uncased")
    return Recipe(
        name=size if objective is MaskedPairs else size + WHOLE_WORD,
        architecture="bert",
        config=bert.SIZES[size],
        make_tokenizer=partial(train_tokenizer.wordpiece, lowercase=lowercase),
        end_of_document=None,
        task=partial(task, objective),
        optimizer=partial(optimizers.adamw_bert, eps=1e-6, decay=0.01, clip=1.0),
        undecayed=BIASES_AND_NORMS,
        **fields,
    )


SMALL = ("bert-tiny", "bert-shallow")
WHOLE_WORD = "-whole-word-masking"
RECIPES = {
    "bert-tiny": bert_tiny,
    "bert-tiny" + WHOLE_WORD: partial(bert_tiny, WholeWordMaskedPairs),
    "bert-shallow": bert_shallow,
    **{size: partial(published, size) for size in bert.SIZES if size not in SMALL},
    **{
        size + WHOLE_WORD: partial(published, size, WholeWordMaskedPairs)
        for size in ("bert-large-uncased", "bert-large-cased")
    },
}
