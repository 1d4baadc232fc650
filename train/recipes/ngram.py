"""N-gram models, trained by counting: no steps, no batches, no schedule.

The default is the model of Heafield et al. 2013 and of the tables of Chen and Goodman 1999:
interpolated modified Kneser-Ney of order 5 on words.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import zoo
from train.data.sources import builtin
from train.data.sources.source import Source


@dataclass(frozen=True, kw_only=True)
class NGramRecipe:
    """What is counted, and how probabilities are estimated from the counts.

    Attributes:
      source_kind: The kind of source: running text.
      name: The name in `zoo pretrain NAME`.
      order: The length of the longest n-grams.
      units: What a token is: "word", "character", or "token" for those of a given tokenizer.
      min_count: How often a word must occur to be in the vocabulary.
      vocab_size: The most entries of the vocabulary; None: no limit.
      estimator: A name in train/counting/estimators.py, or NAME=VALUE.
      prune: For every order, the highest count whose n-grams are left out of the tables.
    """

    source_kind: ClassVar[str] = "text"

    name: str = "ngram"
    order: int = 5
    units: str = "word"
    min_count: int = 1
    vocab_size: int | None = None
    estimator: str = "modified-kneser-ney"
    prune: tuple[int, ...] = ()

    def builtin_source(self) -> Source:
        """Return the source to count if the user gives none."""
        return builtin.read()

    def identity(self) -> dict[str, Any]:
        """Return all settings that determine the model, as JSON."""
        return {"zoo": zoo.__version__, **asdict(self)}


def ngram() -> NGramRecipe:
    """Return `zoo pretrain ngram`: words of the built-in corpus, in half a minute."""
    return NGramRecipe()


RECIPES: Mapping[str, Callable[[], NGramRecipe]] = {"ngram": ngram}
