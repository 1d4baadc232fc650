"""The learning-rate range test: find the learning rate at which the loss falls fastest.

Smith 2017, section 3.3, https://arxiv.org/abs/1506.01186.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.devices.parallelism import PARALLELISM
from train.devices.placement import Training
from train.finetuning import unfreezing
from train.finetuning.batches import labelled_batches, train_rows, with_features
from train.finetuning.finetune import load
from train.finetuning.objective import TaskObjective
from train.finetuning.settings import Settings
from train.finetuning.tasks.task import Task, encode
from train.finetuning.tuning import initial_params, unfreezing_strategy
from train.reporting.curves import BASELINE, TRAIN
from train.reporting.pictures import picture, title
from train.step import cast
from zoo import registry
from zoo.params import unflatten

SMOOTHING = 0.9  # of the moving mean, with bias correction as in Adam
CLEAR_FALL = 6  # fewer than one in a hundred tests on pure noise falls this far
WARMUP = 10  # steps until the moving mean averages over enough batches


def range_test(
    folder: str | Path,
    task: Task,
    examples: Sequence,
    settings: Settings,
    low: float,
    high: float,
    steps: int,
    labels: Sequence[str] = (),
) -> tuple[list[float], list[float]]:
    """Train with exponentially growing learning rates, and return them with their losses.

    The parameters are those of the first stage of fine-tuning. As in fast.ai, the test stops when
    the loss reaches four times its minimum.
    """
    loaded, new_paths = load(folder, task, task.labels(examples, labels), settings)
    model, longest = loaded.model, loaded.model.config.max_length
    rows = train_rows(model, encode(task, loaded, examples, min(settings.length, longest)))
    batches = labelled_batches(rows, longest, settings.batch, (settings.seed,))
    params = initial_params(loaded, new_paths, (settings.seed,))
    groups = unfreezing.groups(list(params), registry.of(model).GROUPS)
    strategy = unfreezing.STRATEGIES[unfreezing_strategy(model, settings)]
    first = strategy(len(groups), settings.epochs)[0].first
    trained = {path: params[path] for group in groups[first:] for path in group}
    frozen = {path: x for path, x in params.items() if path not in trained}
    if first == len(groups) - 1 and not settings.auxiliary:
        batches = with_features(batches, model, unflatten(params), rows)
    schedule = lambda step: low * (high / low) ** (step / (steps - 1))
    peaks = dict.fromkeys(trained, 1.0)
    training = Training(
        model=model,
        init=lambda: trained,
        objective=TaskObjective(task, settings.auxiliary, cast(frozen, settings.dtype)),
        optimizer=unfreezing.optimizer(schedule, peaks, settings.weight_decay, settings.optimizer),
        schedule=schedule,
        axes=registry.of(model).AXES,
        batch_size=settings.batch,
        seed=settings.seed,
        dtype=settings.dtype,
        accumulate=settings.accumulate,
    )
    placement = PARALLELISM[settings.parallel](training, settings.mesh)
    state, losses = placement.begin(trained), []
    for number in range(steps):
        state, metrics = placement.step(state, placement.put(batches(number)))
        losses.append(float(metrics["loss"]))
        if not losses[-1] < 4 * min(losses):
            break
    return [float(schedule(step)) for step in range(len(losses))], losses


def smooth(losses: Sequence[float]) -> np.ndarray:
    """Return the bias-corrected moving mean of losses."""
    mean, means = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**number))
    return np.array(means)


def steepest(learning_rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the learning rate at which the smoothed loss falls fastest.

    The loss falls clearly if its moving mean falls by at least `CLEAR_FALL` times its noise.

    Raises:
      ValueError: If the loss never falls, or not clearly.
    """
    smoothed, rates = smooth(losses)[WARMUP:], learning_rates[WARMUP:]
    end = int(smoothed.argmin()) + 1 if len(smoothed) else 0
    noise = _noise(losses[: WARMUP + end])
    if end < 3:
        raise ValueError(
            "the loss never falls: try lower learning rates with --low, or more --steps"
        )
    if smoothed[0] - smoothed[end - 1] < CLEAR_FALL * noise:
        raise ValueError(
            f"the loss has no clear fall, from {smoothed[0]:.3g} to {smoothed[end - 1]:.3g} with a "
            f"noise of {noise:.2g}: try a larger --batch, more --steps, or a higher --high"
        )
    # Not at the minimum itself, where the slope is that of a single batch.
    slopes = np.gradient(smoothed[:end], np.log(rates[:end]))[:-1]
    return float(rates[int(slopes.argmin())])


def _noise(losses: Sequence[float]) -> float:
    """Return the standard deviation of the moving mean, estimated for a constant expected loss.

    The deviation of single losses is estimated from the median difference between neighbours, which
    is robust against a slow trend and outliers.
    """
    single = 1.4826 * np.median(np.abs(np.diff(losses))) / np.sqrt(2)
    return float(single * np.sqrt((1 - SMOOTHING) / (1 + SMOOTHING)))


def draw(
    learning_rates: Sequence[float],
    losses: Sequence[float],
    best: float,
    out: str | Path,
    name: str = "",
) -> None:
    """Plot the loss over the learning rate, with the best learning rate as a dashed line."""
    with picture(out, 8, 4.8) as figure:
        axes = figure.subplots()
        marker = "o" if len(losses) == 1 else None
        axes.plot(learning_rates, losses, color=TRAIN, alpha=0.3, marker=marker, label="each batch")
        axes.plot(learning_rates, smooth(losses), color=TRAIN, label="moving mean")
        axes.axvline(best, color=BASELINE, linestyle="--", label=f"steepest fall, at {best:.1e}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, mean of a batch")
        axes.set_ylim(top=min(max(losses), 2 * losses[0]))
        axes.set_title(title(name, "learning-rate range test"), parse_math=False)
        axes.legend()
