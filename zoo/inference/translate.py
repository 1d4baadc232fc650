"""Translation with any encoder-decoder, and its attention weights.

B batch  L length of the source  T length of the target  H heads  M number of keys
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Unpack, overload

import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference.beam_search import beam_search_ids, check_beams, max_target
from zoo.inference.constraints import Rules, check_integer
from zoo.inference.continuation import word_ids
from zoo.inference.generate import generate_ids
from zoo.inference.length_buckets import bucket, merged
from zoo.inference.prompts import (
    ENDS,
    UNLIMITED,
    as_list,
    encode_source,
    end_token,
    require_tokenizer,
)
from zoo.tokenizers import AnyTokenizer, Tokenizer, sides


@overload
def translate(
    loaded: Loaded,
    text: str,
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
    bad_words: str | Sequence[str] = ...,
    **rules: Unpack[Rules],
) -> str: ...


@overload
def translate(
    loaded: Loaded,
    text: list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
    bad_words: str | Sequence[str] = ...,
    **rules: Unpack[Rules],
) -> list[str]: ...


def translate(
    loaded: Loaded,
    text: str | list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
    bad_words: str | Sequence[str] = (),
    **rules: Unpack[Rules],
) -> str | list[str]:
    """Return the translation of a text, or those of a list of texts.

    Args:
      loaded: An encoder-decoder with its tokenizer.
      text: A text or a list of texts; texts in one length bucket are translated together.
      beams: The beam width; 1 is greedy.
      length_penalty: Above 1: longer translations. Below 1: shorter ones.
      batch_size: Number of texts to translate at once.
      bad_words: As in `generate`.
      **rules: `min_new_tokens`, `repetition_penalty`, `no_repeat_ngram_size` and
        `suppress_tokens`, as in `generate`.

    Raises:
      ValueError: If a text is empty, the model is not an encoder-decoder, or an option is out of
        range.
    """
    model, params, _ = loaded
    end, tokenizer = _end_of(loaded), require_tokenizer(loaded)
    check_beams(model, beams)
    check_integer("batch_size", batch_size, 1)
    bad_words_ids = word_ids(tokenizer, bad_words)
    texts = as_list(text)
    sources = [encode_source(sides(tokenizer).source, source, end) for source in texts]
    targets: dict[int, list[int]] = {}
    lengths = [bucket(len(source), UNLIMITED) for source in sources]
    if beams == 1:  # a batch that is not full takes as long as a full one
        lengths = merged(lengths, batch_size)
    for indices in _batches(lengths, batch_size):
        prompts = [sources[index] for index in indices]
        # All batches have the same number of rows, so that they share compiled programs.
        prompts += prompts[-1:] * (min(batch_size, len(texts)) - len(indices))
        sizes = [max_target(len(prompt)) for prompt in prompts]
        size = max(sizes)
        if beams == 1:
            generated = generate_ids(
                model,
                params,
                prompts,
                max_new_tokens=size,
                end=end,
                bad_words_ids=bad_words_ids,
                temperature=0,
                **rules,
            )
            # As many tokens as each text alone may have.
            generated = [ids[:most] for ids, most in zip(generated, sizes, strict=True)]
        else:
            best = beam_search_ids(
                model,
                params,
                prompts,
                max_new_tokens=size,
                end=end,
                beams=beams,
                length_penalty=length_penalty,
                bad_words_ids=bad_words_ids,
                **rules,
            )
            generated = [row[0][0] for row in best]
        targets |= dict(zip(indices, generated, strict=False))
    ids = [targets[index] for index in range(len(texts))]
    translations = [tokenizer.decode(target, skip_special_tokens=False) for target in ids]
    return translations[0] if isinstance(text, str) else translations


def _batches(buckets: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield indices of texts in one length bucket, up to `batch_size` at a time."""
    for length in sorted(set(buckets)):
        indices = [index for index, other in enumerate(buckets) if other == length]
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]


class Word(NamedTuple):
    """A word of a text, and how many tokens it has."""

    text: str
    num_tokens: int


class Attention(NamedTuple):
    """The attention weights of one layer.

    Attributes:
      name: The path of the layer.
      weights: [H, rows, columns]: how much each row attends to each column.
      rows: The tokens that attend.
      columns: The tokens that are attended to.
      row_words: The words that the rows are tokens of; empty if unknown.
      column_words: The words that the columns are tokens of; empty if unknown.
    """

    name: str
    weights: np.ndarray
    rows: list[str]
    columns: list[str]
    row_words: Sequence[Word] = ()
    column_words: Sequence[Word] = ()

    def by_word(self) -> "Attention":
        """Return the attention between words, or itself if the words are not known.

        The weights of a word are summed over its tokens as columns, and averaged as rows.
        """
        if not self.row_words or not self.column_words:
            return self
        row_starts, row_sizes = _starts(self.row_words)
        column_starts, _ = _starts(self.column_words)
        weights = np.add.reduceat(self.weights, column_starts, axis=2)
        weights = np.add.reduceat(weights, row_starts, axis=1) / row_sizes[:, None]
        rows, columns = ([word.text for word in w] for w in (self.row_words, self.column_words))
        return self._replace(weights=weights, rows=rows, columns=columns)


def attention(loaded: Loaded, source: str, target: str) -> list[Attention]:
    """Return all attention weights of an encoder-decoder, layer by layer.

    A row of the target is labeled with the token that it predicts.

    Raises:
      ValueError: If the model has no attention.
    """
    model, params, _ = loaded
    end, tokenizers = _end_of(loaded), sides(require_tokenizer(loaded))
    source_ids, target_ids = (
        encode_source(tokenizers.source, source, end),
        encode_source(tokenizers.target, target, end),
    )
    start = model.start_token
    _, state = model.apply(
        {"params": params},
        jnp.array([source_ids]),
        jnp.array([[start, *target_ids[:-1]]]),
        mutable=["intermediates"],
    )
    if not state:
        raise ValueError(
            f"{type(model).__name__} encodes the source into a single vector, so there is no "
            "attention to draw"
        )
    source_tokens = [tokenizers.source.id_to_token(i) or "" for i in source_ids]
    first, *target_tokens = (tokenizers.target.id_to_token(i) or "" for i in (start, *target_ids))
    shifted_tokens = [first, *target_tokens[:-1]]
    axes = {
        "encoder": (source_tokens, source_tokens),
        "decoder": (target_tokens, shifted_tokens),
        "source": (target_tokens, source_tokens),
    }
    source_words = _words(tokenizers.source, source)
    target_words = _words(tokenizers.target, target)
    end_word = Word(target_tokens[-1], 1)  # on both sides
    column_words, row_words = [*source_words, end_word], [*target_words, end_word]
    words = {
        "encoder": (column_words, column_words),
        "decoder": (row_words, [Word(first, 1), *target_words]),
        "source": (row_words, column_words),
    }
    return [
        Attention(name, weights, *axes[side(name)], *words[side(name)])
        for name, weights in _sown(state)
    ]


def _words(tokenizer: Tokenizer, text: str) -> list[Word]:
    """Return the words of a text in order; every token belongs to one of them.

    A token continues a word if the tokenizer assigns it to that word, and it either begins between
    two letters or digits (so that 2026-11-23 has separate parts) or shares characters with the
    previous token.
    """
    encoding = tokenizer.encode(text, add_special_tokens=False)
    spans: list[list[int]] = []  # start and end in the text, and number of tokens
    before = None
    for (start, end), word in zip(encoding.offsets, encoding.word_ids, strict=True):
        between = start > 0 and text[start - 1].isalnum() and text[start : start + 1].isalnum()
        if spans and word == before and (between or start == end or start < spans[-1][1]):
            spans[-1][1:] = max(end, spans[-1][1]), spans[-1][2] + 1
        else:
            spans.append([start, end, 1])
        before = word
    return [Word(text[start:end].strip(), count) for start, end, count in spans]


def _starts(words: Sequence[Word]) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the first token of each word, and its number of tokens."""
    sizes = np.array([word.num_tokens for word in words])
    return np.cumsum(sizes) - sizes, sizes


def side(name: str) -> str:
    """Return which side attends, from the name of a layer: encoder, decoder or source.

    "source" is the attention of the decoder to the source.
    """
    if "encoder" in name:
        return "encoder"
    return "decoder" if name.endswith("/attention") else "source"


def _sown(tree, path=()):
    """Yield the path of each layer and its sown attention weights, [H, T, M]."""
    for name in sorted(tree, key=_by_number):
        if isinstance(tree[name], dict):
            yield from _sown(tree[name], (*path, name))
        elif name == "attention":  # blocks sow their hidden states too
            (weights,) = tree[name]  # [1, H, T, M], of a recurrent decoder [1, 1, T, 1, M]
            _, H, *_, M = weights.shape
            part = "/".join(name for name in path if name not in ("intermediates", "trunk", "mix"))
            yield part, np.asarray(weights).reshape(H, -1, M)


def _by_number(name: str):
    """Return a sort key that orders layers by their numbers."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, -1)


def _end_of(loaded: Loaded) -> int:
    """Return the token that ends a text; raise ValueError if the model does not translate."""
    if not isinstance(loaded.model, EncoderDecoder):
        raise ValueError(f"{type(loaded.model).__name__} has no encoder: use generate instead")
    return end_id(require_tokenizer(loaded))


def end_id(tokenizer: AnyTokenizer) -> int:
    """Return the token that ends a text; raise ValueError if the tokenizer has none."""
    end = end_token(tokenizer)
    if end is None:
        raise ValueError(f"the tokenizer has no token that ends a text: none of {', '.join(ENDS)}")
    return end
