"""From a source of text to what a run trains on: the tokenizer and the tokenised corpus."""

import hashlib
import os
import re
from itertools import islice
from pathlib import Path

from train.data.corpus import corpus as stored
from train.data.corpus.corpus import Corpus
from train.recipes.recipe import Recipe
from zoo import tokenizers

# A tokenizer of some ten thousand words learns nothing from more. A small one needs fewer, but from
# 100 a word it cuts the built-in dates into pieces so long that a translator learns them less well.
DOCUMENTS = 200_000
DOCUMENTS_A_WORD = 400


def tokenizer(recipe: Recipe, source, run=None, folder=None):
    """The run's own tokenizer if it has one; else that of `folder`; else one trained on the source.

    Raises ValueError where its words do not fit the model's vocabulary.
    """
    if run is not None and (Path(run) / "tokenizer.json").exists():
        found = tokenizers.load(run)
        if folder is not None and not _same(found, tokenizers.load(folder)):
            raise ValueError(f"{run} has another tokenizer than {folder}: leave out --tokenizer")
    elif folder is not None:
        found = tokenizers.load(folder)
    else:
        vocab_size = recipe.config.vocab_size
        most = min(DOCUMENTS, DOCUMENTS_A_WORD * vocab_size)
        texts = list(islice(_without_reserved(recipe, source).documents(), most))
        found = recipe.make_tokenizer(texts, vocab_size)
    count = found.get_vocab_size()
    if count > recipe.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {count} words, {recipe.name} has room for "
            f"{recipe.config.vocab_size}: give a --tokenizer that fits, or --vocabulary {count}"
        )
    return found


def corpus(recipe: Recipe, source, tokenizer) -> Corpus:
    """The source tokenised, once for all runs: under ZOO_CACHE, else ~/.cache/zoo."""
    end = recipe.end_of_document
    end = None if end is None else tokenizer.token_to_id(end)
    if recipe.end_of_document is not None and end is None:
        raise ValueError(
            f"the tokenizer has no {recipe.end_of_document}, which {recipe.name} needs"
        )
    name = f"{source.fingerprint} {tokenizers.fingerprint(tokenizer)} {end}"
    cache = Path(os.environ.get("ZOO_CACHE", Path.home() / ".cache" / "zoo"))
    folder = cache / "corpora" / hashlib.sha256(name.encode()).hexdigest()[:16]
    return stored.prepare(_without_reserved(recipe, source), tokenizer, folder, end)


def _without_reserved(recipe: Recipe, source):
    """The source, which raises ValueError at a text that holds what the recipe reserves."""
    if recipe.reserved is None:
        return source

    def documents():
        for number, text in enumerate(source.documents()):
            found = re.search(recipe.reserved, text)
            if found:
                raise ValueError(
                    f"document {number} of the text holds {found[0]!r}, which {recipe.name} puts "
                    "there itself: remove it"
                )
            yield text

    return source._replace(documents=documents)


def _same(one, other) -> bool:
    return tokenizers.fingerprint(one) == tokenizers.fingerprint(other)
