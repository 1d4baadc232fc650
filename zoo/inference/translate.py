"""Translation with any encoder-decoder, and what each word attended to.

B batch  L length of the source  T length of the target  H heads  M length of what is attended to
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference.beam_search import beam_search_ids, check_beams, max_target
from zoo.inference.generate import generate_ids
from zoo.inference.length_buckets import bucket
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
) -> str: ...


@overload
def translate(
    loaded: Loaded,
    text: list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
) -> list[str]: ...


def translate(
    loaded: Loaded,
    text: str | list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
) -> str | list[str]:
    """Return the translation of a text, or of each of many.

    Args:
      loaded: An encoder-decoder with its tokenizer.
      text: A text, or many, of which those of one length bucket are translated together.
      beams: The width of the search; 1 is greedy.
      length_penalty: Above 1: longer translations. Below 1: shorter ones.
      batch_size: Texts to translate at once.

    Raises:
      ValueError: if a text is empty, or the model is no encoder-decoder.
    """
    model, params, _ = loaded
    end, tokenizer = _end_of(loaded), require_tokenizer(loaded)
    check_beams(model, beams)
    texts = as_list(text)
    sources = [encode_source(sides(tokenizer).source, one, end) for one in texts]
    found: dict[int, list[int]] = {}
    for places in _batches([bucket(len(source), UNLIMITED) for source in sources], batch_size):
        prompts = [sources[place] for place in places]
        # All batches have the same number of rows, so that they share their programs.
        prompts += prompts[-1:] * (min(batch_size, len(texts)) - len(places))
        size = max_target(len(prompts[0]))
        if beams == 1:
            new = generate_ids(model, params, prompts, max_new_tokens=size, end=end, temperature=0)
        else:
            best = beam_search_ids(
                model,
                params,
                prompts,
                max_new_tokens=size,
                end=end,
                beams=beams,
                length_penalty=length_penalty,
            )
            new = [row[0][0] for row in best]
        found |= dict(zip(places, new, strict=False))
    ids = [found[place] for place in range(len(texts))]
    translations = [tokenizer.decode(one, skip_special_tokens=False) for one in ids]
    return translations[0] if isinstance(text, str) else translations


def _batches(buckets: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield the places of one length bucket, at most so many at a time."""
    for length in sorted(set(buckets)):
        places = [place for place, other in enumerate(buckets) if other == length]
        for start in range(0, len(places), batch_size):
            yield places[start : start + batch_size]


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
      row_words: The words that the rows are split from; empty if that is not known.
      column_words: The words that the columns are split from.
    """

    name: str
    weights: np.ndarray
    rows: list[str]
    columns: list[str]
    row_words: Sequence[Word] = ()
    column_words: Sequence[Word] = ()

    def by_word(self) -> "Attention":
        """Return the attention between words, or itself if the words are not known.

        A word is attended to as much as its tokens together, and attends as its tokens on average.
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

    A row of the target is the token that is predicted from what is attended to.

    Raises:
      ValueError: if the model has no attention.
    """
    model, params, _ = loaded
    end, both = _end_of(loaded), sides(require_tokenizer(loaded))
    reads, writes = (
        encode_source(both.source, source, end),
        encode_source(both.target, target, end),
    )
    start = model.start_token
    _, found = model.apply(
        {"params": params},
        jnp.array([reads]),
        jnp.array([[start, *writes[:-1]]]),
        mutable=["intermediates"],
    )
    if not found:
        raise ValueError(
            f"a {type(model).__name__} encodes the source into a single vector, so there is no "
            "attention to draw"
        )
    read = [both.source.id_to_token(i) or "" for i in reads]
    first, *written = (both.target.id_to_token(i) or "" for i in (start, *writes))
    before = [first, *written[:-1]]
    who = {"encoder": (read, read), "decoder": (written, before), "source": (written, read)}
    source_words, target_words = _words(both.source, source), _words(both.target, target)
    last = [Word(written[-1], 1)]  # the end of a text, on both sides
    read_words, written_words = [*source_words, *last], [*target_words, *last]
    words = {
        "encoder": (read_words, read_words),
        "decoder": (written_words, [Word(first, 1), *target_words]),
        "source": (written_words, read_words),
    }
    return [
        Attention(name, weights, *who[side(name)], *words[side(name)])
        for name, weights in _sown(found)
    ]


def _words(tokenizer: Tokenizer, text: str) -> list[Word]:
    """Return the words of a text in order; every token belongs to one of them.

    A token continues a word if the tokenizer says so and it begins between two letters or digits,
    so that the parts of 2026-11-23 are words of their own; or if it shares characters with the one
    before it.
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
    """Return the first token of each word, and how many tokens it has."""
    sizes = np.array([word.num_tokens for word in words])
    return np.cumsum(sizes) - sizes, sizes


def side(name: str) -> str:
    """Return which side attends, by the names that models give their layers.

    Tokens of the encoder or the decoder attend to their own side, else the decoder to the source.
    """
    if "encoder" in name:
        return "encoder"
    return "decoder" if name.endswith("/attention") else "source"


def _sown(tree, path=()):
    """Yield the attention weights that were sown, [H, T, M], each with the path of its layer."""
    for name in sorted(tree, key=_by_number):
        if isinstance(tree[name], dict):
            yield from _sown(tree[name], (*path, name))
        elif name == "attention":  # blocks sow their hidden states too
            (weights,) = tree[name]  # [1, H, T, M], of a recurrent decoder [1, 1, T, 1, M]
            _, H, *_, M = weights.shape
            part = "/".join(name for name in path if name not in ("intermediates", "trunk", "mix"))
            yield part, np.asarray(weights).reshape(H, -1, M)


def _by_number(name: str):
    """Return a key that sorts layers by their numbers."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, -1)


def _end_of(loaded: Loaded) -> int:
    """Return the token that ends a text; ValueError for a model that does not translate."""
    if not isinstance(loaded.model, EncoderDecoder):
        raise ValueError(f"a {type(loaded.model).__name__} has no encoder: try zoo generate")
    return end_id(require_tokenizer(loaded))


def end_id(tokenizer: AnyTokenizer) -> int:
    """Return the token that ends a text; ValueError if the tokenizer has none."""
    end = end_token(tokenizer)
    if end is None:
        raise ValueError(f"the tokenizer has no token that ends a text: none of {', '.join(ENDS)}")
    return end
