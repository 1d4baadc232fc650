"""What a recipe reads: running text, or pairs of texts."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from train.data.batches import length_buckets
from train.data.corpus import corpus
from train.data.corpus.corpus import Corpus
from train.data.sources import builtin, dates, parallel_text
from train.data.sources.text import Source
from zoo.tokenizers import Sides

END = "</s>"  # what an objective ends both texts of a pair with


class Reading(NamedTuple):
    """What there is to know of a kind of text before it is cut into batches."""

    kind: str
    builtin: Callable  # () -> the Source there always is
    split: Callable  # corpus -> (train, held_out)
    predicted: Callable  # (corpus, tokenizer) -> the tokens that a model predicts
    remarks: Callable  # (source, its corpus, tokenizer, length) -> lines to tell


def tokens(corpus: Corpus, tokenizer=None) -> np.ndarray:
    """The tokens of a part of a corpus, not copied."""
    return corpus.tokens[int(corpus.sentences[0]) : int(corpus.sentences[-1])]


def ended_targets(corpus: Corpus, tokenizer) -> np.ndarray:
    """The tokens of all targets and their ends, which stand together at the end."""
    ends = np.full(parallel_text.num_pairs(corpus), tokenizer.token_to_id(END), corpus.tokens.dtype)
    return np.concatenate([parallel_text.targets(corpus), ends])


def _remarks(source: Source, corpus: Corpus, tokenizer, length: int) -> list[str]:
    """Raises ValueError where pairs came apart."""
    texts = sum(1 for _ in source.documents())
    if texts != 2 * parallel_text.num_pairs(corpus):
        raise ValueError(
            f"of {texts:,} texts the tokenizer makes nothing of some, and pairs would come apart: "
            "take another --tokenizer"
        )
    divided = None if isinstance(tokenizer, Sides) else parallel_text.unlike(source)
    return [line for line in (divided, length_buckets.lengthy(corpus, length)) if line]


TEXT = Reading("text", builtin.read, corpus.split, tokens, lambda *_: [])
PAIRS = Reading("pairs", dates.read, parallel_text.split, ended_targets, _remarks)
