"""Translates texts with any model that has an encoder, and shows what each word looked at.

B batch  L length of the source  T length of the target  H heads  M length of what is looked at
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from zoo.inference import generate
from zoo.inference.generate import ENDS
from zoo.tokenizers import sides

ROWS = 32  # texts translated at once
MORE = 50  # a translation is at most so many tokens longer than its source (Vaswani et al. 2017)


def translate(
    model, params, tokenizer, texts, *, beams: int = 4, penalty: float = 1.0, rows: int = ROWS
) -> list[str]:
    """The translation of each text, in the order of the texts.

    `beams` 1 takes the likeliest word each time; else as generate.beam, with its `penalty`. Texts
    on one rung of lengths are translated together. Raises ValueError for an empty text.
    """
    end = end_of(model, tokenizer)
    generate.check_width(model, beams)
    sources = [encode(tokenizer, text, end) for text in texts]
    rungs = [generate.rung(len(source)) for source in sources]
    found = {}
    for places in _batches(rungs, rows):
        prompts = [sources[place] for place in places]
        # All batches have as many rows, so that they share their programs.
        prompts += prompts[-1:] * (min(rows, len(texts)) - len(places))
        length = rungs[places[0]] + MORE
        if beams == 1:
            new = generate.generate(model, params, prompts, length=length, end=end, temperature=0)
        else:
            best = generate.beam(
                model, params, prompts, length=length, end=end, width=beams, penalty=penalty
            )
            new = [row[0][0] for row in best]
        found |= dict(zip(places, new, strict=False))
    return [
        tokenizer.decode(found[place], skip_special_tokens=False) for place in range(len(texts))
    ]


def _batches(rungs, rows: int):
    """The places that stand on one rung, at most so many at a time."""
    for rung in sorted(set(rungs)):
        places = [place for place, found in enumerate(rungs) if found == rung]
        for start in range(0, len(places), rows):
            yield places[start : start + rows]


def candidates(
    model, params, tokenizer, text: str, best: int, *, beams: int = 4, penalty: float = 1.0
) -> list[tuple[str, float]]:
    """The `best` translations of one text that a beam finds, with their scores, the best first."""
    end = end_of(model, tokenizer)
    generate.check_width(model, beams)
    source = encode(tokenizer, text, end)
    settings = {"end": end, "width": beams, "penalty": penalty, "best": best}
    length = generate.rung(len(source)) + MORE
    (found,) = generate.beam(model, params, [source], length=length, **settings)
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
    end, both = end_of(model, tokenizer), sides(tokenizer)
    reads, writes = encode(both.source, source, end), encode(both.target, target, end)
    start = start_of(model)
    _, found = model.apply(
        {"params": params},
        jnp.array([reads]),
        jnp.array([[start, *writes[:-1]]]),
        mutable=["intermediates"],
    )
    if not found:
        raise ValueError(
            f"a {type(model).__name__} squeezes its source into one state: it has no attention"
        )
    read = [both.source.id_to_token(i) for i in reads]
    start, *written = (both.target.id_to_token(i) for i in (start, *writes))
    before = [start, *written[:-1]]
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


def end_of(model, tokenizer) -> int:
    """The token that ends a text; ValueError for a model that does not translate."""
    if not hasattr(model, "encode"):
        raise ValueError(f"a {type(model).__name__} has no encoder: it writes on, see zoo generate")
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so it takes token ids only")
    return end_id(tokenizer)


def start_of(model) -> int:
    """The token that stands before every target; T5 always takes its padding, 0."""
    return getattr(model.config, "start", 0)


def end_id(tokenizer) -> int:
    """The token that ends a text; ValueError where the tokenizer has none."""
    known = [i for name in ENDS if (i := tokenizer.token_to_id(name)) is not None]
    if not known:
        raise ValueError(f"the tokenizer has no token that ends a text: none of {', '.join(ENDS)}")
    return known[0]


def encode(tokenizer, text: str, end: int) -> list[int]:
    """The tokens of a text, and its end; ValueError for an empty one."""
    found = tokenizer.encode(text, add_special_tokens=False).ids
    if not found:
        raise ValueError("there is nothing to translate in an empty text")
    return [*found, end]
