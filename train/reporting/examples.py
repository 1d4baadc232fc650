"""An example of a run before and after corruption: in the colors of a terminal, and as a picture.

Lines of tokens stand one below the other, column by column, as in an interlinear translation.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.text import Text

from train.reporting.pictures import heading_size, label, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["plain", "special", "masked", "random", "kept", "target", "context", "second"]
# The background of each kind: colors of Okabe and Ito, light enough for black letters.
COLORS: dict[Kind, str] = {
    "special": "#DDDDDD",
    "masked": "#F0B64D",
    "random": "#E58B4D",
    "kept": "#9AD0F0",
    "target": "#7FC9AE",
    "context": "#DFB4CF",
    "second": "#DFB4CF",
}
MEANINGS: dict[Kind, str] = {
    "special": "special",
    "masked": "masked or removed",
    "random": "replaced",
    "kept": "predicted, unchanged",
    "target": "predicted",
    "context": "context",
    "second": "second segment",
}
COLUMNS = 96  # characters per line of a picture
CHARACTER, LINE = 0.105, 0.235  # inches
SCHEDULE_INCHES, MATRIX_INCHES = 2.6, 5.5
BARS = " ▁▂▃▄▅▆▇█"


class Cell(NamedTuple):
    """A token as it is shown, and what was done to it."""

    text: str
    kind: Kind = "plain"


class Line(NamedTuple):
    """A row of tokens, such as the input of the network."""

    name: str
    cells: Sequence[Cell]


class Matrix(NamedTuple):
    """Which tokens (columns) each token (row) attends to: bool [L, L]."""

    title: str
    words: Sequence[str]
    allowed_LL: np.ndarray


class Example(NamedTuple):
    """An example of a run.

    Attributes:
      groups: Lines whose tokens correspond, of equal numbers of cells.
      notes: What else there is to say, a sentence each.
      matrix: The mask of attention, where the corruption draws one.
    """

    groups: Sequence[Sequence[Line]]
    notes: Sequence[str] = ()
    matrix: Matrix | None = None


class Schedule(NamedTuple):
    """The learning rate of a run: values at places of the axis named `label`."""

    label: str
    places: np.ndarray
    values: np.ndarray


# In a terminal


def print_example(example: Example) -> None:
    """Print an example, in colors where the terminal has them."""
    console = Console(highlight=False, soft_wrap=True)
    for group in example.groups:
        for rows in _blocks(group, console.width):
            for row in rows:
                text = Text()
                for part, kind in row:
                    text.append(part, style=f"black on {COLORS[kind]}" if kind in COLORS else "")
                text.rstrip()
                console.print(text)
        console.print()
    for note in example.notes:
        console.print(note, markup=False)
    used = _kinds(example)
    if used:
        text = Text("colors: ")
        for kind in used:
            text.append(f" {MEANINGS[kind]} ", style=f"black on {COLORS[kind]}").append(" ")
        text.rstrip()
        console.print(text)
    if example.matrix is not None:
        console.print(f"{example.matrix.title} (rows attend to the columns marked █)")
        width = max(len(label(word)) for word in example.matrix.words)
        for word, row in zip(example.matrix.words, example.matrix.allowed_LL, strict=True):
            marks = "".join("█" if x else "·" for x in row)
            console.print(f"{label(word):>{width}} {marks}", markup=False)


def bars(schedule: Schedule) -> str:
    """Return a learning rate as a line of bars."""
    most = schedule.values.max() or 1.0
    return "".join(BARS[round(float(x) / most * (len(BARS) - 1))] for x in schedule.values)


def _blocks(group: Sequence[Line], width: int) -> Iterator[list[list[tuple[str, Kind]]]]:
    """Yield the lines of a group, broken at the same tokens to fit a width, with their names."""
    name_width = max(len(line.name) for line in group)
    columns = list(zip(*(line.cells for line in group), strict=True))
    start = 0
    while start < len(columns):
        at = name_width + 2
        widths: list[int] = []
        for column in columns[start:]:
            size = max(len(label(cell.text)) for cell in column)
            if widths and at + size + 1 > width:
                break
            widths.append(size)
            at += size + 1
        stop = start + len(widths)
        rows = []
        for number, line in enumerate(group):
            row: list[tuple[str, Kind]] = [(f"{line.name:{name_width}}  ", "plain")]
            for column, size in zip(columns[start:stop], widths, strict=True):
                cell = column[number]
                row += [(f"{label(cell.text):{size}}", cell.kind), (" ", "plain")]
            rows.append(row)
        yield rows
        start = stop


def _kinds(example: Example) -> list[Kind]:
    """Return the kinds of an example that have a color, in a fixed order."""
    there = {cell.kind for group in example.groups for line in group for cell in line.cells}
    return [kind for kind in COLORS if kind in there]


# As a picture


def draw(example: Example, schedule: Schedule | None, out: str | Path, heading: str) -> None:
    """Draw an example, its mask and the schedule of its run.

    Raises:
      ValueError: If the name of the file is not that of a picture.
    """
    blocks = [block for group in example.groups for block in [*_blocks(group, COLUMNS), []]]
    notes = len(example.notes) + 2
    text_height = (sum(len(block) + 0.6 for block in blocks) + notes) * LINE
    below = MATRIX_INCHES if example.matrix else SCHEDULE_INCHES if schedule else 0.0
    size = COLUMNS * CHARACTER, text_height + below + 0.6
    with picture(out, *size) as figure:
        figure.suptitle(heading, fontsize=heading_size(heading, size[0]), parse_math=False)
        heights = [text_height, below] if below else [text_height]
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
        _text(parts[0, 0].subplots(), example, blocks)
        if below:
            count = (example.matrix is not None) + (schedule is not None)
            axes = iter(np.ravel(parts[1, 0].subplots(1, count)))
            if example.matrix is not None:
                _matrix(next(axes), example.matrix)
            if schedule is not None:
                _schedule(next(axes), schedule)


def _text(axes: "Axes", example: Example, blocks: Sequence) -> None:
    """Draw lines of tokens, by character, from the top."""
    from matplotlib.patches import Rectangle

    axes.set_axis_off()
    letters: dict[str, Any] = {"family": "monospace", "fontsize": 11, "va": "center"}
    y = 0.0

    def put(x, part, kind):
        if kind in COLORS:
            axes.add_patch(Rectangle((x - 0.2, y - 0.45), len(part) + 0.4, 0.9, color=COLORS[kind]))
        axes.text(x, y, part, parse_math=False, **letters)
        return x + len(part)

    for block in blocks:
        for line in block:
            x = 0.0
            for part, kind in line:
                x = put(x, part, kind)
            y += 1
        y += 0.6
    for note in example.notes:
        axes.text(0, y, note, fontsize=11, va="center", parse_math=False)
        y += 1
    x = 0.0
    for kind in _kinds(example):
        x = put(x, f" {MEANINGS[kind]} ", kind) + 1
    axes.set(xlim=(-0.5, COLUMNS), ylim=(y + 1, -0.6))


def _matrix(axes: "Axes", matrix: Matrix) -> None:
    axes.imshow(matrix.allowed_LL, vmin=0, vmax=1.2, aspect="auto")
    axes.grid(visible=False)
    places, words = range(len(matrix.words)), [label(word) for word in matrix.words]
    size = min(9.0, MATRIX_INCHES * 0.7 * 72 / len(words))
    axes.set_xticks(places, words, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, words, fontsize=size, parse_math=False)
    axes.set(ylabel="token that attends", xlabel="token attended to (blue)", title=matrix.title)


def _schedule(axes: "Axes", schedule: Schedule) -> None:
    axes.plot(schedule.places, schedule.values)
    axes.set(xlabel=schedule.label, ylabel="learning rate", title="schedule")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
