"""The picture of a run: loss in training and on held-out text, and the learning rate below."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

TRAIN, HELD_OUT, BASELINE, RATE = "#3b6ea8", "#d1603d", "#8a8a8a", "#5b8c5a"


def draw(events: Sequence[Mapping], baselines: Mapping[str, float], path: str | os.PathLike):
    """Draw the events of a log, with baselines as dashed lines, into a PNG of 960 by 720 pixels.

    Args:
      events: the lines of a log.jsonl, whose losses are in nats per token.
      baselines: losses to compare with, by name.
      path: where the picture goes.
    """
    # Here, not above: it takes a second, which every start of a program would pay.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, rate_axes = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    for axes in (loss_axes, rate_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e8e8e8")
        axes.set_axisbelow(True)

    step, loss, rate = _columns(events, "train", "loss", "rate")
    if len(step) > 100:
        loss_axes.plot(step, loss, color=TRAIN, alpha=0.25, linewidth=0.8)
        loss = _smooth(loss, len(step) // 50)
    loss_axes.plot(step, loss, color=TRAIN, linewidth=1.5, label="training")
    rate_axes.plot(step, rate, color=RATE, linewidth=1.5)

    step, loss = _columns(events, "held_out", "loss")
    label = f"held out, {loss[-1]:.2f} at the end" if len(loss) else "held out"
    loss_axes.plot(step, loss, color=HELD_OUT, linewidth=1.5, marker="o", markersize=4, label=label)
    for name, value in baselines.items():
        loss_axes.axhline(value, color=BASELINE, linewidth=1, linestyle="--")
        loss_axes.annotate(
            f"{name}  {value:.2f}",
            xy=(1, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            color=BASELINE,
            fontsize=9,
            ha="right",
        )
    loss_axes.set_ylabel("loss (nats per token)")
    loss_axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    rate_axes.set_ylabel("learning rate")
    rate_axes.set_ylim(bottom=0)
    rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rate_axes.set_xlabel("step")
    rate_axes.margins(x=0.01)
    figure.align_ylabels()
    figure.savefig(path)


def _columns(events, kind, *names):
    """One array for "step" and one for each name; what a line lacks, or had not finite, is NaN."""
    rows = [
        [event.get(name) for name in ("step", *names)] for event in events if event["kind"] == kind
    ]
    return np.array(rows, float).reshape(-1, 1 + len(names)).T


def _smooth(values, width):
    """The mean of up to `width` neighbours on each side, equally many; NaN counts for nothing."""
    at = np.arange(len(values))
    reach = np.minimum(width, np.minimum(at, len(values) - 1 - at))
    there = np.isfinite(values)
    total, count = (
        np.concatenate([[0], np.cumsum(x)]) for x in (np.where(there, values, 0), there)
    )
    total, count = (x[at + reach + 1] - x[at - reach] for x in (total, count))
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
