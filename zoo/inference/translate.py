"""Translates texts with any model that has an encoder, and shows what each word looked at.

B batch  L length of the source  T length of the target  H heads  M length of what is looked at
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from zoo.contracts import EncoderDecoder
from zoo.inference.beam_search import beam_search
from zoo.inference.generate import generate
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import ENDS, UNLIMITED, check_beams, encode_source, end_token
from zoo.tokenizers import Tokenizer, sides

ROWS = 32  # texts translated at once
MORE = 50  # a translation is at most so many tokens longer than its source (Vaswani et al. 2017)


def translate(
    model, params, tokenizer, texts, *, beams: int = 4, penalty: float = 1.0, rows: int = ROWS
) -> list[str]:
    """The translation of each text, in the order of the texts.

    `beams` 1 takes the likeliest word each time; else as `beam_search`, with its `penalty`. Texts
    of one length bucket are translated together. Raises ValueError for an empty text.
    """
    end = _end_of(model, tokenizer)
    check_beams(model, beams)
    sources = [encode_source(tokenizer, text, end) for text in texts]
    buckets = [bucket(len(source), UNLIMITED) for source in sources]
    found = {}
    for places in _batches(buckets, rows):
        prompts = [sources[place] for place in places]
        # All batches have as many rows, so that they share their programs.
        prompts += prompts[-1:] * (min(rows, len(texts)) - len(places))
        length = buckets[places[0]] + MORE
        if beams == 1:
            new = generate(model, params, prompts, length=length, end=end, temperature=0)
        else:
            best = beam_search(
                model, params, prompts, length=length, end=end, beams=beams, penalty=penalty
            )
            new = [row[0][0] for row in best]
        found |= dict(zip(places, new, strict=False))
    return [
        tokenizer.decode(found[place], skip_special_tokens=False) for place in range(len(texts))
    ]


def _batches(buckets, rows: int):
    """The places of one length bucket, at most so many at a time."""
    for length in sorted(set(buckets)):
        places = [place for place, other in enumerate(buckets) if other == length]
        for start in range(0, len(places), rows):
            yield places[start : start + rows]


def candidates(
    model, params, tokenizer, text: str, best: int, *, beams: int = 4, penalty: float = 1.0
) -> list[tuple[str, float]]:
    """The `best` translations of one text that a beam finds, with their scores, the best first."""
    end = _end_of(model, tokenizer)
    check_beams(model, beams)
    source = encode_source(tokenizer, text, end)
    settings = {"end": end, "beams": beams, "penalty": penalty, "best": best}
    length = bucket(len(source), UNLIMITED) + MORE
    (found,) = beam_search(model, params, [source], length=length, **settings)
    return [(tokenizer.decode(ids, skip_special_tokens=False), score) for ids, score in found]


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


def attention(model, params, tokenizer, source: str, target: str) -> list[Attention]:
    """All attention of a model that reads a source and writes a target, layer by layer.

    A row of the target is the word that is written from what is looked at. Raises ValueError where
    the model has no attention.
    """
    end, both = _end_of(model, tokenizer), sides(tokenizer)
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
    read = [both.source.id_to_token(i) for i in reads]
    start, *written = (both.target.id_to_token(i) for i in (start, *writes))
    before = [start, *written[:-1]]
    who = {"encoder": (read, read), "decoder": (written, before), "source": (written, read)}
    source_words, target_words = _words(both.source, source), _words(both.target, target)
    last = [Word(written[-1], 1)]  # the end of a text, on both sides
    read_words, written_words = [*source_words, *last], [*target_words, *last]
    words = {
        "encoder": (read_words, read_words),
        "decoder": (written_words, [Word(start, 1), *target_words]),
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
    """Who looks, by the names that the models give their parts.

    The words of the encoder or the decoder look at their own side, else the decoder at the source.
    """
    if "encoder" in name:
        return "encoder"
    return "decoder" if name.endswith("/attention") else "source"


def _sown(tree, path=()):
    """The weights of attention that were sown, each with the path of its part: [H, T, M]."""
    for name in sorted(tree, key=_by_number):
        if isinstance(tree[name], dict):
            yield from _sown(tree[name], (*path, name))
        elif name == "attention":  # blocks sow their hidden states too
            (weights,) = tree[name]  # [1, H, T, M], of a recurrent decoder [1, 1, T, 1, M]
            _, H, *_, M = weights.shape
            part = "/".join(name for name in path if name not in ("intermediates", "trunk", "mix"))
            yield part, np.asarray(weights).reshape(H, -1, M)


def _by_number(name: str):
    """Layers in the order of their numbers."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, -1)


def _end_of(model, tokenizer) -> int:
    """The token that ends a text; ValueError for a model that does not translate."""
    if not isinstance(model, EncoderDecoder):
        raise ValueError(f"a {type(model).__name__} has no encoder: try zoo generate")
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so it takes token ids only")
    return end_id(tokenizer)


def end_id(tokenizer) -> int:
    """The token that ends a text; ValueError where the tokenizer has none."""
    end = end_token(tokenizer)
    if end is None:
        raise ValueError(f"the tokenizer has no token that ends a text: none of {', '.join(ENDS)}")
    return end
