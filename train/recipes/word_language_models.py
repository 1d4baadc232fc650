"""What the recipes of language models of whole words share: the vocabulary.

As in the Penn Treebank and WikiText, a token is a word between white space, and every line ends
with one. The vocabulary has the most frequent words of the text, in the order of their counts, as
many as the config of the recipe at most; then the config takes the size of the vocabulary.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, Self

from train.data import vocabulary
from train.data.corpus.corpus import Corpus
from train.recipes.recipe import Recipe
from zoo.tokenizers import AnyTokenizer, Tokenizer


class WordLanguageModelRecipe(Recipe):
    """Recipes of language models of whole words; every document starts with `</s>`."""

    reads_words: ClassVar[bool] = True
    reads_all_words: ClassVar[bool] = True

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return vocabulary.tokenizer(texts, "word", vocab_size=self.config.vocab_size)

    def for_text(self, tokenizer: AnyTokenizer, corpus: Corpus) -> Self:
        config: Any = replace(self.config, vocab_size=tokenizer.get_vocab_size())
        return Recipe.for_text(replace(self, config=config), tokenizer, corpus)
