"""Pictures in the style of the project, zoo.mplstyle, written without a display."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = "train.reporting.zoo"
DOTS_PER_INCH = 120
MAX_DOTS = 8000  # per side; a larger picture can neither be drawn nor looked at
MAX_CHARACTERS = 24  # of a word in a picture
POINTS_PER_INCH, EM_PER_CHARACTER = 72, 0.72
SUFFIXES = (".png", ".svg", ".pdf")


@contextmanager
def picture(out: str | os.PathLike, width: float, height: float) -> Iterator["Figure"]:
    """Yield a figure of a size in inches, drawn on in the style, and write it at the end.

    Raises:
      ValueError: If the name of the file is not that of a picture.
    """
    # Here, not above: it takes a second, which every start of a program would pay.
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_name(out)
    with matplotlib.style.context(STYLE), warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        yield figure
        # Without the date, the same picture is the same file.
        figure.savefig(out, metadata={"Date": None} if Path(out).suffix == ".svg" else {})


def check_name(out: str | os.PathLike) -> None:
    """Raise ValueError if the name of a file is not that of a picture."""
    if Path(out).suffix not in SUFFIXES:
        raise ValueError(f"a picture is written as {', '.join(SUFFIXES)}, not as {Path(out).name}")


def label(word: str) -> str:
    """Return a word as the label of an axis: on one line, and not too long."""
    shown = "".join(x if x.isprintable() else "\N{MIDDLE DOT}" for x in word)
    return shown if len(shown) <= MAX_CHARACTERS else f"{shown[: MAX_CHARACTERS - 1]}…"


def title(name: str, shown: str) -> str:
    """Return the title of a picture: the name of the run, unless it is empty, and what is shown."""
    return f"{name}: {shown}" if name else shown[:1].upper() + shown[1:]


def heading_size(heading: str, inches: float) -> float:
    """Return a size of letters at which a bold heading fits into a picture of some width."""
    return min(15.0, inches * POINTS_PER_INCH / (EM_PER_CHARACTER * max(len(heading), 1)))
