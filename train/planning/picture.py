"""A picture of plans: what fills the memory of a device, and what takes the time of a step."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.planning.machines import GIB
from train.planning.plan import Plan
from train.reporting.pictures import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colors, which the color-blind can tell apart.
MEMORY = {
    "parameters": "#0072B2",
    "optimizer": "#56B4E9",
    "gradients": "#009E73",
    "activations": "#E69F00",
}
TIME = {"compute": "#0072B2", "memory": "#E69F00", "network": "#CC79A7"}


def draw(plans: Sequence[Plan], out: Path) -> None:
    """Draw one group of bars per plan: memory per device on the left, time per step on the right.

    Raises:
      ValueError: If the name of the file is not that of a picture.
    """
    with picture(out, 12, 2.4 + 0.9 * len(plans)) as figure:
        _draw(plans, *figure.subplots(1, 2))
        recipe = plans[0].recipe
        figure.suptitle(f"{recipe.name}: batch {recipe.batch} x {recipe.length}, {recipe.dtype}")


def _draw(plans: Sequence[Plan], memory: "Axes", time: "Axes") -> None:
    rows = range(len(plans))
    left = [0.0] * len(plans)
    for name, color in MEMORY.items():
        widths = [getattr(plan.memory, name) / GIB for plan in plans]
        memory.barh(rows, widths, left=left, color=color, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, plan in enumerate(plans):
        limit = plan.machine.chip.memory / GIB
        memory.plot([limit, limit], [row - 0.45, row + 0.45], color="black", linewidth=2)
    memory.set(xlabel="GiB per device (black line: all there is)", title="memory")
    seconds = [
        (plan.compute_seconds or 0.0, plan.memory_seconds, plan.link_seconds) for plan in plans
    ]
    for number, (name, color) in enumerate(TIME.items()):
        places = [row + (number - 1) * 0.27 for row in rows]
        milliseconds = [1e3 * parts[number] for parts in seconds]
        time.barh(places, milliseconds, height=0.25, color=color, label=name)
    time.set(xlabel="milliseconds per step (the longest decides)", title="time at best")
    for axes in (memory, time):
        axes.set_yticks(list(rows), [plan.machine.name for plan in plans])
        axes.invert_yaxis()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2)
