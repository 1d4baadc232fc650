"""The learning-rate range test: where does the loss fall fastest? (Smith 2017, section 3.3)

https://arxiv.org/abs/1506.01186
"""

import numpy as np

from train.reporting.curves import LEVEL, TRAIN

SMOOTHING = 0.9  # of the moving mean, corrected for its start as Adam's is
SETTLED = 10  # updates until that mean is no longer one of a few chance batches


def smooth(losses) -> np.ndarray:
    """The moving mean of losses."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**number))
    return np.array(found)


def steepest(rates, losses) -> float:
    """The rate at which the smoothed loss falls fastest; ValueError where it never falls."""
    smoothed, rates = smooth(losses)[SETTLED:], rates[SETTLED:]
    end = int(smoothed.argmin()) + 1 if len(smoothed) else 0
    if end < 3:
        raise ValueError("the loss never falls: try lower rates with --low, or more --steps")
    slopes = np.gradient(smoothed[:end], np.log(rates[:end]))
    return float(rates[int(slopes.argmin())])


def draw(rates, losses, best: float, out) -> None:
    """Draws the losses over the rates, and the best of these as a dashed line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(rates, losses, color=TRAIN, alpha=0.3)
    axes.plot(rates, smooth(losses), color=TRAIN)
    axes.axvline(best, color=LEVEL, linestyle="--")
    axes.set(xscale="log", xlabel="rate", ylabel="loss")
    axes.set_ylim(top=min(max(losses), 2 * losses[0]))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)
