"""Translates texts with any model that has an encoder, and shows what each word looked at.

B batch  L length of the source  T length of the target  H heads  M length of what is looked at
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from zoo.contracts import EncoderDecoder
from zoo.inference.beam_search import beam_search
from zoo.inference.generate import generate
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import ENDS, UNLIMITED, check_beams, encode_source, end_token
from zoo.tokenizers import sides

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
    found: dict[int, list[int]] = {}
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


class Attention(NamedTuple):
    """Who looked at whom: weights [H, rows, columns], and the tokens of rows and columns."""

    name: str
    weights: np.ndarray
    rows: list[str]
    columns: list[str]


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
    read = [both.source.id_to_token(i) or "" for i in reads]
    first, *written = (both.target.id_to_token(i) or "" for i in (start, *writes))
    before = [first, *written[:-1]]
    who = {"encoder": (read, read), "decoder": (written, before), "source": (written, read)}
    return [Attention(name, weights, *who[side(name)]) for name, weights in _sown(found)]


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
