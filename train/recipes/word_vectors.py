"""What the recipes of word2vec, fastText and GloVe share: the vocabulary and the word counts.

The vocabulary is that of the original programs: the words between white space, the most frequent
first, of those that occur `min_count` times. Others are left out of the text, so that they are in
no window. A line ends every window.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from train.data import vocabulary
from train.data.corpus.corpus import Corpus
from train.recipes.recipe import Recipe
from zoo.tokenizers import AnyTokenizer, Tokenizer
from zoo.tokenizers.units import END, LINE_END, UNKNOWN

NO_WORDS = (UNKNOWN, END, LINE_END)


@dataclass(frozen=True, kw_only=True)
class WordVectorRecipe(Recipe):
    """A recipe of word vectors.

    Attributes:
      min_count: How often a word must occur to be in the vocabulary.
      window: The most words on one side of a word.
      counts: How often each word occurs in the training text; 0 for tokens that are no words. Set
        by `for_text`.
    """

    reads_all_words: ClassVar[bool] = True

    min_count: int = 5
    window: int = 5
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return vocabulary.tokenizer(texts, "word", self.min_count, self.config.vocab_size)

    def for_text(self, tokenizer: AnyTokenizer, corpus: Corpus) -> Self:
        vocab_size = tokenizer.get_vocab_size()
        counts = count(corpus, vocab_size)
        for name in NO_WORDS:
            number = tokenizer.token_to_id(name)
            if number is not None:
                counts[number] = 0
        if counts.sum() <= self.window:
            raise ValueError(
                f"the text has {counts.sum()} words of the vocabulary, but a window has "
                f"{self.window} on either side: give more text, or a lower --min-count"
            )
        config: Any = replace(self.config, vocab_size=vocab_size)
        recipe = replace(self, counts=counts, config=config)
        longest = math.ceil(recipe.epoch(tokenizer, corpus) / recipe.batch)
        recipe = replace(recipe, length=min(recipe.length, longest))
        recipe = Recipe.for_text(recipe, tokenizer, corpus)
        epoch = math.ceil(recipe.steps / (recipe.epochs or 1))
        every = {
            name: min(getattr(recipe, name), epoch) for name in ("evaluate_every", "save_every")
        }
        return replace(recipe, **every)

    def line_ends(self, tokenizer: AnyTokenizer) -> tuple[int, ...]:
        """Return the tokens that end a line or a document."""
        numbers = (tokenizer.token_to_id(name) for name in (END, LINE_END))
        return tuple(number for number in numbers if number is not None)

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"min_count": self.min_count, "window": self.window}


def count(corpus: Corpus, vocab_size: int, chunk: int = 1 << 22) -> np.ndarray:
    """Return how often each token occurs in a text: int64 [V]."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(corpus.start, corpus.stop, chunk):
        tokens = corpus.read(start, min(start + chunk, corpus.stop))
        counts += np.bincount(tokens, minlength=vocab_size)
    return counts
