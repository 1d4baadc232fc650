"""The picture of a run: loss in training and on held-out text, and the learning rate below."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from train.reporting.pictures import heading_size, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN, HELD_OUT, BASELINE, RATE = "#0072B2", "#D55E00", "#777777", "#009E73"


def draw(
    events: Sequence[Mapping],
    baselines: Mapping[str, float],
    path: str | os.PathLike,
    name: str = "",
    loss: str = "loss",
    unit: str = "nats per token",
    metric: str = "",
) -> None:
    """Draw the events of a log, with baselines as dashed lines, into a PNG of 960 by 720 pixels.

    Args:
      events: The lines of a log.jsonl.
      baselines: Values of that loss to compare with, by name.
      path: Where the picture goes.
      name: The name of the run, for the title.
      loss: Which loss to draw, such as "masked_loss": the one that the baselines are values of.
      unit: The unit of the losses.
      metric: A held-out metric to draw on axes of its own, such as "accuracy"; "": none.
    """
    with picture(path, 8, 6) as figure:
        _draw(figure, events, baselines, name, loss, unit, metric)


def _draw(
    figure: "Figure",
    events: Sequence[Mapping],
    baselines: Mapping[str, float],
    name: str,
    loss: str,
    unit: str,
    metric: str,
) -> None:
    """Draw the curves into a figure; the arguments are those of `draw`."""
    from matplotlib.ticker import MaxNLocator

    heights = (3, 2, 1) if metric else (4, 1)
    loss_axes, *metric_axes, rate_axes = figure.subplots(
        len(heights), sharex=True, height_ratios=heights
    )
    for axes in (loss_axes, *metric_axes, rate_axes):
        axes.grid(visible=False, axis="x")

    shown = loss.replace("_", " ")
    step, train, rate = _columns(events, "train", loss, "learning_rate")
    if len(step) > 100:
        loss_axes.plot(step, train, color=TRAIN, alpha=0.25, linewidth=0.8)
        train = _smooth(train, len(step) // 50)
    if len(step):
        _line(loss_axes, step, train, TRAIN, "training")
        _line(rate_axes, step, rate, RATE)

    step, held_out = _columns(events, "held_out", loss)
    if np.isfinite(held_out).any():
        last = f"held out, {held_out[-1]:.2f} at the end"
        loss_axes.plot(
            step, held_out, color=HELD_OUT, linewidth=1.5, marker="o", markersize=4, label=last
        )
    _baselines(loss_axes, baselines)
    loss_axes.set_ylabel(f"{shown} ({unit})" if unit else shown)
    if loss_axes.get_legend_handles_labels()[0]:
        loss_axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    what = f"{shown} in training"
    if np.isfinite(held_out).any():
        what += " and on held-out text"
    for axes in metric_axes:
        what += f", {metric.replace('_', ' ')} on dev data"
        axes.set_ylabel(metric.replace("_", " "))
        for run in sorted({event.get("run", 0) for event in events if metric in event}):
            own = [event for event in events if event.get("run", 0) == run]
            step, value = _columns(own, "held_out", metric)
            axes.plot(step, value, color=HELD_OUT, linewidth=1.2, marker="o", markersize=4)
    heading = f"{name}: {what}" if name else what
    size = heading_size(heading, figure.get_figwidth())
    figure.suptitle(heading, fontsize=size, parse_math=False)
    rate_axes.set_ylabel("learning rate")
    rate_axes.set_ylim(bottom=0)
    rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rate_axes.set_xlabel("step")
    rate_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    last_step = max((event["step"] for event in events), default=0) or 1
    rate_axes.set_xlim(-0.01 * last_step, 1.01 * last_step)
    figure.align_ylabels()


def _line(axes, step, values, color, label=None):
    """Draw a line, or a marker where there is a single point, which no line would show."""
    marker = "o" if np.isfinite(values).sum() == 1 else None
    axes.plot(step, values, color=color, linewidth=1.5, marker=marker, markersize=4, label=label)


def _baselines(axes, baselines):
    """Draw a dashed line per baseline, each with its name and value at the right."""
    for name, value in baselines.items():
        axes.axhline(value, color=BASELINE, linewidth=1, linestyle="--")
        axes.annotate(
            f"{name}  {value:.2f}",
            xy=(1, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            color=BASELINE,
            fontsize=9,
            ha="right",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
        )


def _columns(events, kind, *names):
    """Return one array for "step" and one per name; what is missing or not finite is NaN."""
    rows = [
        [event.get(name) for name in ("step", *names)] for event in events if event["kind"] == kind
    ]
    return np.array(rows, float).reshape(-1, 1 + len(names)).T


def _smooth(values, width):
    """Return the mean of up to `width` neighbours, equally many on each side, leaving out NaN."""
    at = np.arange(len(values))
    reach = np.minimum(width, np.minimum(at, len(values) - 1 - at))
    there = np.isfinite(values)
    total, count = (
        np.concatenate([[0], np.cumsum(x)]) for x in (np.where(there, values, 0), there)
    )
    total, count = (x[at + reach + 1] - x[at - reach] for x in (total, count))
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
