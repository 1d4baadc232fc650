"""The tokenizer and the tokenized corpus of a run, from a source of text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from train.data import cache, sampling
from train.data.corpus import prepare
from train.data.corpus.corpus import Corpus
from train.data.corpus.reversed import Reversed
from train.data.progress import Progress
from train.data.sources.source import Piece, Source
from train.objectives.causal import Causal
from train.objectives.objective import Objective
from train.recipes.recipe import Recipe
from zoo import tokenizers
from zoo.checkpoints import hub
from zoo.direction import is_backward
from zoo.tokenizers import AnyTokenizer, end_of_document

# A tokenizer is trained on a sample of the text. Frequencies fall with the rank (Zipf), so in 4 kB
# per entry, or a thousand tokens, the rarest of V entries occurs about 1000 / ln V = 100 times: its
# frequency is known to a tenth, and more text would only exchange entries that hardly ever occur.
# On WikiText-2 and 2,048 entries, half of the text makes 0.2 % more tokens of the held-out text, an
# eighth 1 %. Any text below the least is used whole. The most bounds the memory; it means fewer
# bytes per entry only for vocabularies of more than 32,768.
SAMPLE_BYTES_PER_ENTRY = 1 << 12
LEAST_SAMPLE_BYTES, MOST_SAMPLE_BYTES = 1 << 24, 1 << 27

# Of pairs, which are short, the first ones are taken. With 100 texts per entry, the pieces of the
# built-in dates are so long that translators learn less well.
MOST_PAIRED_TEXTS = 200_000
PAIRED_TEXTS_PER_ENTRY = 400


def tokenizer(
    recipe: Recipe,
    source: Source,
    run: str | Path | None = None,
    folder: str | Path | None = None,
) -> AnyTokenizer:
    """Return the tokenizer of a run: its own, else that of a folder, else a newly trained one.

    Args:
      recipe: The recipe.
      source: The text.
      run: The folder of the run that is resumed, or None.
      folder: A folder with a tokenizer to use, or a name on the Hub, or None.

    Raises:
      ValueError: If the run has another tokenizer than the folder, or if the tokenizer has more
        entries than the model's vocabulary.
    """
    given = None if folder is None else tokenizers.load(hub.resolve_tokenizer(folder))
    if run is not None and (Path(run) / "tokenizer.json").exists():
        result = tokenizers.load(run)
        if given is not None and not _same(result, given):
            raise ValueError(f"{run} has another tokenizer than {folder}: leave out --tokenizer")
    elif given is not None:
        result = given
    else:
        result = _trained(recipe, source)
    count = result.get_vocab_size()
    if count > recipe.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {count} entries, but the vocabulary of {recipe.name} is "
            f"{recipe.config.vocab_size}: use a smaller --tokenizer, or --vocab-size {count}"
        )
    return result


def _trained(recipe: Recipe, source: Source) -> AnyTokenizer:
    """Return a new tokenizer, of a sample of the text or of all of its words."""
    source = recipe.examples(source)
    words = (piece.text for piece in _checked(recipe, source).pieces())
    if recipe.embeddings is not None and recipe.reads_words:
        return recipe.embeddings.train_tokenizer(words, recipe.config.vocab_size)
    if recipe.reads_all_words:
        return recipe.train_tokenizer(words)
    return recipe.train_tokenizer(_Watched(_sample(recipe, source)))


def corpus(recipe: Recipe, source: Source, tokenizer: AnyTokenizer) -> Corpus:
    """Return the tokenized source, cached for all runs in ZOO_CACHE (default: ~/.cache/zoo)."""
    source = recipe.examples(source)
    name = recipe.end_of_document
    end = None if name is None else end_of_document(tokenizer, name)
    identity = f"{source.fingerprint} {tokenizers.fingerprint(tokenizer)} {end} {prepare.VERSION}"
    folder = cache.folder("corpora", identity)
    return prepare.prepare(_checked(recipe, source), tokenizer, folder, end)


def _sample(recipe: Recipe, source: Source) -> list[str]:
    """Return the texts that the tokenizer of a recipe is trained on."""
    source, vocab_size = _checked(recipe, source), recipe.config.vocab_size
    if source.kind == "pairs":
        most = min(MOST_PAIRED_TEXTS, PAIRED_TEXTS_PER_ENTRY * vocab_size)
        return [piece.text for piece in islice(source.pieces(), most)]
    most = max(SAMPLE_BYTES_PER_ENTRY * vocab_size, LEAST_SAMPLE_BYTES)
    return sampling.sample(source, min(most, MOST_SAMPLE_BYTES))


def in_reading_order(recipe: Recipe, objective: Objective, corpus: Corpus) -> Corpus:
    """Return the text in the order in which the model of a recipe reads it.

    Raises:
      ValueError: If the direction is unknown, or the model reads backward but is not causal.
    """
    if not is_backward(recipe.config):
        return corpus
    if not isinstance(objective, Causal):
        raise ValueError(f"{recipe.name} does not predict the next token: it reads in no direction")
    return Reversed.of(corpus, objective.end_of_document)


@dataclass(frozen=True)
class _Watched:
    """Texts that show the progress of whoever reads them."""

    texts: list[str]

    def __iter__(self) -> Iterator[str]:
        sizes = [len(text.encode()) for text in self.texts]
        with Progress("tokenizer", sum(sizes)) as progress:
            for text, size in zip(self.texts, sizes, strict=True):
                yield text
                progress.add(size)


@dataclass(frozen=True)
class _CheckedSource(Source):
    """A source that raises ValueError if a text contains a token that the recipe reserves."""

    source: Source
    reserved_tokens: str
    recipe_name: str

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def num_bytes(self) -> int | None:
        return self.source.num_bytes

    def documents(self) -> Iterator[str]:
        return self.source.documents()

    def pieces(self) -> Iterator[Piece]:
        for piece in self.source.pieces():
            reserved = re.search(self.reserved_tokens, piece.text)
            if reserved:
                raise ValueError(
                    f"document {piece.document} of the text contains {reserved[0]!r}, which "
                    f"{self.recipe_name} reserves as a special token: remove it"
                )
            yield piece


def _checked(recipe: Recipe, source: Source) -> Source:
    reserved = recipe.reserved_tokens
    return source if reserved is None else _CheckedSource(source, reserved, recipe.name)


def _same(one: AnyTokenizer, other: AnyTokenizer) -> bool:
    return tokenizers.fingerprint(one) == tokenizers.fingerprint(other)
