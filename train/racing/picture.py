"""The picture of a race: bits per byte against compute, in FLOP and in seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.racing.entrants import ENTRANTS
from train.racing.race import panels

FILE = "race.png"
STYLE = "train.reporting.zoo"
MARKERS = "os^Dv<>Pp*h"
TITLES = {"causal": "language models", "masked": "masked models"}
LABELS = {
    "causal": "bits per byte",
    "masked": "bits per byte (line: 15 % masked;\nring: one token masked at a time)",
}


def draw(record: Mapping[str, Any], out: Path) -> None:
    """Draw a row for each panel: on the left against FLOP, on the right against seconds.

    A line shows an entrant on its way, and that of the n-gram model its orders. A ring is the
    pseudo-perplexity of a masked model at the end.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    shown = panels(dict(record))
    with matplotlib.style.context(STYLE):
        heights = [4.6 if panel == "causal" else 3.2 for panel, _ in shown]
        figure = Figure(figsize=(13.5, sum(heights) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(
            len(shown), 2, sharex="col", sharey="row", squeeze=False, height_ratios=heights
        )
        for (panel, own), (flop, seconds) in zip(shown, rows, strict=True):
            for name, result in own.items():
                for axes, amount in ((flop, "flop"), (seconds, "seconds")):
                    _curve(axes, name, result, amount)
            flop.set_ylabel(LABELS[panel])
            flop.set_title(f"{TITLES[panel]}, by computation", loc="left")
            seconds.set_title(f"{TITLES[panel]}, by time", loc="left")
            for axes in (flop, seconds):
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())
            seconds.legend(
                loc="center left", bbox_to_anchor=(1.01, 0.5), title="parameters: bits per byte"
            )
        rows[-1][0].set_xlabel("FLOP (of n-grams: additions and products of counts)")
        rows[-1][1].set_xlabel("seconds of training")
        settings = record["settings"]
        figure.suptitle(
            f"{settings['minutes']:g} minutes, shared equally; {settings['vocab_size']:,} pieces"
        )
        figure.savefig(out)


def _curve(axes: Any, name: str, result: Mapping[str, Any], amount: str) -> None:
    """Draw the curve of an entrant, with its size and last figure in the legend."""
    number = list(ENTRANTS).index(name)
    curve = result["curve"]
    x = [point[amount] for point in curve]
    y = [point["bits_per_byte"] for point in curve]
    pseudo = result.get("pseudo_bits_per_byte")
    last = y[-1] if pseudo is None else pseudo
    orders = [point["order"] for point in curve if "order" in point]
    title = f"{name} of {orders[0]} to {orders[-1]}" if orders else name
    label = f"{title}, {result['parameters'] / 1e6:.1f} M: {last:.2f}"
    style = {"color": f"C{number % 7}", "linestyle": "-" if number < 7 else "--"}  # seven colors
    (line,) = axes.plot(x, y, marker=MARKERS[number], label=label, **style)
    if pseudo is not None:
        axes.plot(x[-1:], [pseudo], "o", color=line.get_color(), markersize=11, fillstyle="none")
    for point in curve:
        if "order" in point:
            axes.annotate(
                str(point["order"]),
                (point[amount], point["bits_per_byte"]),
                xytext=(5, 5),
                textcoords="offset points",
                color=line.get_color(),
            )
