"""The classifier of fastText before training: its vocabulary, its rows and its counts.

Labels are ordered by how often they occur, as in the files of the released program. With random
rows, so are the words; a folder keeps its vocabulary.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from train.finetuning.settings import BagOfWords
from train.step import random_params
from zoo.checkpoints.load import Loaded, load, saved_class
from zoo.inference.prompts import require_tokenizer
from zoo.models.fasttext import Config, FastText, FastTextClassifier
from zoo.tokenizers import AnyTokenizer, sides, subwords, units

NEW = Path("fasttext")  # in place of a folder: random rows
BUCKETS = 200_000


def is_start(folder: str | Path) -> bool:
    """Return whether a classifier of fastText can start from a folder, or from random rows."""
    return Path(folder) == NEW or issubclass(saved_class(folder), FastText)


def start(
    folder: str | Path,
    texts: Sequence[str],
    labels: Mapping[str, int],
    words: BagOfWords,
    seed: int,
) -> Loaded:
    """Return the classifier before training.

    Args:
      folder: A fastText folder, or NEW.
      texts: The training texts.
      labels: How often each label occurs in them.
      words: The settings of the classifier.
      seed: The seed of random rows.

    Raises:
      ValueError: If the settings do not fit the folder or the texts.
    """
    counts = Counter(word for text in texts for word in subwords.line(text))
    if Path(folder) == NEW:
        tokenizer, before = _vocabulary(counts, words.min_count or 1), None
        config = Config(
            vocab_size=tokenizer.get_vocab_size(),
            width=words.width or 100,
            min_n=words.min_n or 0,
            max_n=words.max_n or 0,
            buckets=0,
        )
    else:
        before = load(folder)
        tokenizer, config = require_tokenizer(before), before.model.config
        _check_kept(folder, words, config)
    names = sorted(labels, key=lambda name: -labels[name])
    config = replace(
        config,
        labels=tuple(names),
        loss=words.loss,
        word_ngrams=words.word_ngrams,
        buckets=config.buckets or _buckets(words, config),
    )
    model = FastTextClassifier(config)
    params = random_params(model, seed)
    if before is not None:
        params["rows"] = params["rows"].at[: len(before.params["rows"])].set(before.params["rows"])
    params["counts"] = jnp.asarray(_by_id(counts, tokenizer, config.vocab_size))
    params["label_counts"] = jnp.array([labels[name] for name in names], jnp.int32)
    return Loaded(model, params, tokenizer)


def _vocabulary(counts: Mapping[str, int], min_count: int) -> AnyTokenizer:
    """Return the tokenizer of frequent words, the most frequent first, after <unk> and </s>."""
    specials = units.UNKNOWN, units.END
    kept = [word for word, count in counts.items() if count >= min_count and word not in specials]
    if not kept:
        raise ValueError(
            f"no word occurs {min_count} times in the training texts: use a lower --min-count"
        )
    return units.words([*specials, *sorted(kept, key=lambda word: (-counts[word], word))])


def _by_id(counts: Mapping[str, int], tokenizer: AnyTokenizer, vocab_size: int) -> np.ndarray:
    """Return how often each word of a vocabulary occurs: int32 [V]."""
    counts_V, id_of = np.zeros(vocab_size, np.int32), sides(tokenizer).source.token_to_id
    for word, count in counts.items():
        number = id_of(word)
        if number is not None:
            counts_V[number] = count
    return counts_V


def _buckets(words: BagOfWords, config: Config) -> int:
    """Return the number of rows of n-grams, which are new."""
    has_ngrams = words.word_ngrams > 1 or config.max_n > 0
    if words.buckets and not has_ngrams:
        raise ValueError("--buckets are rows of n-grams: give --word-ngrams or --max-n, too")
    if words.buckets == 0 and has_ngrams:
        raise ValueError("n-grams need rows: leave out --buckets 0")
    return (words.buckets or BUCKETS) if has_ngrams else 0


def _check_kept(folder: str | Path, words: BagOfWords, config: Config) -> None:
    """Raise ValueError for a setting that a folder has decided."""
    for name in ("width", "min_n", "max_n", "buckets", "min_count"):
        value, before = getattr(words, name), getattr(config, name, None)
        is_new = name == "buckets" and not before
        if value not in (None, before) and not is_new:
            raise ValueError(
                f"--{name.replace('_', '-')} is that of {folder}"
                + (f", {before}" if before is not None else "")
                + ": leave it out, or start from random rows with fasttext"
            )
