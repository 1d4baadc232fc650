"""Attention weights as panels: chosen layers and heads, as a picture and as lines of text."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.reporting.pictures import DOTS_PER_INCH, MAX_DOTS, heading_size, label, picture, title
from zoo.inference.attention import ROLLOUT, Attention, Side

# Inches per word, and the size of its letters, of one panel and of many.
SINGLE, MANY = (0.3, 11), (0.2, 8)
MARGIN, LABELS, MIN_INCHES = 0.35, 1.5, 1.3
MIN_PICTURE = 5.0  # for its title


class Words(NamedTuple):
    """What attends in a map, and to what: the title, and the labels of rows and of columns."""

    title: str
    rows: str
    columns: str


WORDS: dict[Side, Words] = {
    "text": Words("attention within the text", "word", "attends to"),
    "source": Words("attention of the output to the source", "output", "source"),
    "encoder": Words("attention within the source", "source", "source, attended to"),
    "decoder": Words("attention within the output", "output", "output so far"),
}


class Layer(NamedTuple):
    """The maps of one layer: its name, the names of its heads, and their weights."""

    name: str
    heads: tuple[str, ...]
    attention: Attention


def by_side(layers: Sequence[Attention]) -> dict[Side, list[Layer]]:
    """Return the layers of each side, those of the output to the source first, counted from 1."""
    sides: dict[Side, list[Layer]] = {side: [] for side in WORDS}
    for attention in layers:
        own = sides[attention.side]
        heads = tuple(f"head {number}" for number in range(1, len(attention.weights) + 1))
        name = ROLLOUT if attention.name == ROLLOUT else f"layer {len(own) + 1}"
        own.append(Layer(name, heads, attention))
    return {side: own for side, own in sides.items() if own}


def choose(
    sides: dict[Side, list[Layer]], layer: int | None, head: int | None
) -> dict[Side, list[Layer]]:
    """Return one layer, one head of each layer, or one head of one layer, each counted from 1.

    Raises:
      ValueError: If no side has it.
    """
    most = {
        "layer": max(map(len, sides.values())),
        "head": max(len(one.heads) for layers in sides.values() for one in layers),
    }
    for what, number in (("layer", layer), ("head", head)):
        if number is not None and number > most[what]:
            raise ValueError(
                f"the model has no {what} {number}: it has {most[what]}, counted from 1"
            )
    chosen: dict[Side, list[Layer]] = {}
    for side, layers in sides.items():
        kept = layers if layer is None else layers[layer - 1 : layer]
        if head is not None:
            kept = [_head(one, head - 1) for one in kept if head <= len(one.heads)]
        if kept:
            chosen[side] = kept
    return chosen


def _head(layer: Layer, index: int) -> Layer:
    weights = layer.attention.weights[index : index + 1]
    return layer._replace(
        heads=layer.heads[index : index + 1], attention=layer.attention._replace(weights=weights)
    )


def lines(layers: Sequence[Layer], top: int = 3) -> list[str]:
    """Return a line per word: the words that it attends to most, on average over the maps."""
    first = layers[0].attention
    weights = np.mean([layer.attention.weights.mean(0) for layer in layers], 0)
    width = max(len(label(word)) for word in first.rows)
    result = []
    for word, row in zip(first.rows, weights, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        attended = "  ".join(f"{label(first.columns[index])} {row[index]:.2f}" for index in best)
        result.append(f"{label(word):{width}}  {attended}")
    return result


def files(out: str | Path) -> dict[Side, Path]:
    """Return the files that `draw` may write, by side: `out`, and files named after the sides."""
    out = Path(out)
    out = out if out.suffix else out.with_suffix(".png")
    return {
        "text": out,
        "source": out,
        "encoder": out.with_stem(f"{out.stem}_encoder"),
        "decoder": out.with_stem(f"{out.stem}_decoder"),
    }


def draw(sides: dict[Side, list[Layer]], out: str | Path, name: str = "") -> list[Path]:
    """Draw attention, one picture per side, with a row per layer and a column per head.

    Every panel has its own color scale, from 0 to its largest weight, which is in its title.

    Args:
      sides: The layers of each side.
      out: The file for the attention within a text, or of an output to its source. The attention
        within a source and within an output is drawn to files beside it.
      name: The name of the model, for the titles.

    Returns:
      The files that were written.

    Raises:
      ValueError: If a text has more words than a picture can show.
    """
    for layers in sides.values():
        _check_size(layers)
    targets = files(out)
    for side, layers in sides.items():
        _draw(layers, targets[side], title(name, WORDS[side].title), WORDS[side])
    return [targets[side] for side in sides]


def _grid(layers: Sequence[Layer]) -> tuple[int, int, float, float]:
    """Return rows and columns of panels, the inches of a word and the size of its letters."""
    rows, columns = len(layers), max(len(layer.heads) for layer in layers)
    inches, size = SINGLE if rows * columns == 1 else MANY
    return rows, columns, inches, size


def _check_size(layers: Sequence[Layer]) -> None:
    rows, columns, inches, _ = _grid(layers)
    room = MAX_DOTS / DOTS_PER_INCH - LABELS
    most = int((room / max(rows, columns) - MARGIN) / inches)
    words = max(max(len(layer.attention.rows), len(layer.attention.columns)) for layer in layers)
    if words > most:
        heads = f"{rows} x {columns} heads" if rows * columns > 1 else "one head"
        hint = "choose --layer and --head, or shorten" if rows * columns > 1 else "shorten"
        raise ValueError(
            f"a picture of {heads} shows at most {max(most, 0)} words, and the text has {words}: "
            f"{hint} the text"
        )


def _draw(layers: Sequence[Layer], file: Path, heading: str, words: Words) -> None:
    rows, columns, inches, size = _grid(layers)
    first = layers[0].attention
    width = max(len(first.columns) * inches, MIN_INCHES) + MARGIN
    height = max(len(first.rows) * inches, MIN_INCHES) + MARGIN
    size_of_all = (max(width * columns + LABELS, MIN_PICTURE), height * rows + LABELS)
    text = {"fontsize": size, "parse_math": False}  # a word may have dollars
    with picture(file, *size_of_all) as figure:
        axes = figure.subplots(rows, columns, squeeze=False)
        for row, layer in zip(axes, layers, strict=True):
            for axis in row[len(layer.heads) :]:
                axis.set_visible(False)
            for axis, head, weights in zip(row, layer.heads, layer.attention.weights, strict=False):
                axis.imshow(weights, vmin=0, vmax=weights.max(), aspect="auto")
                axis.grid(visible=False)
                axis.spines[:].set_visible(True)
                axis.tick_params(length=0)
                axis.set_xticks(range(len(first.columns)))
                axis.set_yticks(range(len(first.rows)))
                axis.set(xticklabels=[], yticklabels=[])
                what = layer.name if layer.name == ROLLOUT else f"{layer.name}, {head}"
                axis.set_title(f"{what}, max {weights.max():.2f}", fontsize=size + 1)
            row[0].set_yticklabels([label(word) for word in first.rows], **text)
            row[0].set_ylabel(words.rows, fontsize=size + 2)
        for axis in axes[-1]:
            axis.set_xticklabels([label(word) for word in first.columns], rotation=90, **text)
            axis.set_xlabel(words.columns, fontsize=size + 2)
        figure.suptitle(heading, fontsize=heading_size(heading, size_of_all[0]), parse_math=False)
