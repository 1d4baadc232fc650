"""The tokenizer and the tokenized text of a count model."""

from pathlib import Path

from train.data import cache, vocabulary
from train.data.corpus import prepare
from train.data.corpus.corpus import Corpus
from train.data.sources.source import Source
from train.recipes.ngram import NGramRecipe
from zoo import tokenizers
from zoo.checkpoints import hub
from zoo.tokenizers import Tokenizer


def tokenizer(recipe: NGramRecipe, source: Source, folder: str | Path | None = None) -> Tokenizer:
    """Return the tokenizer of a folder or name, or else that of the words or characters of a text.

    Raises:
      ValueError: If the tokenizer is that of a translator, or the text has too few words.
    """
    if folder is None:
        texts = (piece.text for piece in source.pieces())
        return vocabulary.tokenizer(texts, recipe.units, recipe.min_count, recipe.vocab_size)
    result = tokenizers.load(hub.resolve_tokenizer(folder))
    if isinstance(result, tokenizers.Sides):
        raise ValueError(f"{folder} has a tokenizer for each of two languages: use another one")
    return result


def corpus(source: Source, tokenizer: Tokenizer, end: int) -> Corpus:
    """Return the tokenized source, cached for all runs in ZOO_CACHE (default: ~/.cache/zoo)."""
    identity = f"{source.fingerprint} {tokenizers.fingerprint(tokenizer)} {end} {prepare.VERSION}"
    folder = cache.folder("corpora", identity)
    return prepare.prepare(source, tokenizer, folder, end)
