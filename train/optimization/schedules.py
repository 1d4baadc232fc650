"""Learning-rate schedules.

A schedule is a pure function of `step`, the number of completed steps. The first step uses the
learning rate of step 0, and a resumed run uses those of an uninterrupted one. After its last step a
schedule stays constant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import jax.numpy as jnp
import numpy as np
import optax

HIGHEST_WITHIN = 1_000_000  # steps; no recipe warms up for longer


class ScheduleFactory(Protocol):
    """Contract of the functions that create the schedule of a run."""

    def __call__(self, steps: int, /) -> optax.Schedule:
        """Return the schedule of a run of `steps` steps."""
        ...


@dataclass(frozen=True)
class AnyLength:
    """A schedule factory whose schedule does not depend on the number of steps.

    A run with it can be lengthened: its steps so far are those of the longer run.
    """

    schedule: optax.Schedule

    def __call__(self, steps: int, /) -> optax.Schedule:
        """Return the schedule, the same for any number of steps."""
        return self.schedule


def constant(peak: float) -> optax.Schedule:
    """Return a constant learning rate."""
    return optax.constant_schedule(peak)


def linear(peak: float, warmup: int, steps: int, end: float = 0.0) -> optax.Schedule:
    """Return linear warm-up from 0 to `peak`, then linear decay to `end` at `steps`.

    With end = peak / 1000, this is XLNet's schedule.

    Raises:
      ValueError: If the warm-up leaves no other steps.
    """
    _check_warmup(warmup, steps)
    return _warm_up(peak, warmup, optax.linear_schedule(peak, end, steps - warmup))


def bert_linear(peak: float, warmup: int, steps: int) -> optax.Schedule:
    """Return linear warm-up to `peak`, then the line from `peak` at step 0 to 0 at `steps`.

    At step `warmup` the learning rate therefore drops by the fraction warmup / steps, as in the
    released code of BERT and ALBERT.

    Raises:
      ValueError: If the warm-up leaves no other steps.
    """
    _check_warmup(warmup, steps)
    line = optax.linear_schedule(peak, 0.0, steps)
    return _warm_up(peak, warmup, lambda step: line(step + warmup))


def electra_linear(peak: float, warmup: int, steps: int) -> optax.Schedule:
    """Return the line from `peak` at step 0 to 0 at `steps`, times min(1, step / warmup).

    As in the released code of ELECTRA. The highest learning rate is a little below `peak`.

    Raises:
      ValueError: If the warm-up leaves no other steps.
    """
    _check_warmup(warmup, steps)
    line = optax.linear_schedule(peak, 0.0, steps)
    rise = optax.linear_schedule(0.0, 1.0, max(warmup, 1))
    return lambda step: line(step) * (rise(step) if warmup else 1.0)


def cosine(peak: float, warmup: int, steps: int, end: float = 0.0) -> optax.Schedule:
    """Return linear warm-up to `peak`, then cosine decay to `end` at `steps`.

    Loshchilov and Hutter 2017, equation 5, without restarts.

    Raises:
      ValueError: If the warm-up leaves no other steps.
    """
    _check_warmup(warmup, steps)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end)


def inverse_square_root(peak: float, warmup: int) -> optax.Schedule:
    """Return linear warm-up to `peak`, then peak * sqrt(warmup / step), without a last step.

    Vaswani et al. 2017, equation 3, where peak = (width * warmup) ** -0.5. With a warm-up of 0, the
    schedule starts at `peak` and then falls as with a warm-up of 1.
    """
    knee = max(warmup, 1)
    fall = lambda step: peak * jnp.sqrt(knee / jnp.maximum(step + warmup, knee))
    return _warm_up(peak, warmup, fall)


def held_inverse_square_root(peak: float, hold: int) -> optax.Schedule:
    """Return `peak` for `hold` steps, then peak * sqrt(hold / step), without a last step.

    Raffel et al. 2020, section 3.1.2: 1 / sqrt(max(step, hold)), where peak = hold ** -0.5.
    """
    return lambda step: peak * jnp.sqrt(hold / jnp.maximum(step, hold))


def slanted_triangular(
    peak: float, steps: int, cut: float = 0.1, ratio: float = 32.0
) -> optax.Schedule:
    """Return a linear rise from peak / ratio over the fraction `cut` of the steps, then the fall.

    Howard and Ruder 2018, equation 3. If cut * steps is not an integer, the equation ends below
    peak / ratio, even below 0. Here the fall back to peak / ratio has exactly the remaining
    steps, which is equivalent if it is an integer.

    Raises:
      ValueError: If the rise leaves no other steps.
    """
    top = int(cut * steps)
    _check_warmup(top, steps)
    rise = optax.linear_schedule(peak / ratio, peak, max(top, 1))
    fall = optax.linear_schedule(peak, peak / ratio, steps - top)
    return optax.join_schedules([rise, fall], [top])


def one_cycle(peak: float, steps: int, rise: float = 0.25) -> optax.Schedule:
    """Return a cosine rise from peak / 25 to `peak`, then a cosine decay to peak / 100,000.

    The rise has the fraction `rise` of the steps. Smith 2018, in fast.ai's form and with its
    defaults, but without the opposite cycle of the momentum.

    Raises:
      ValueError: If there are too few steps for the rise.
    """
    if int(rise * steps) < 1:
        raise ValueError(f"one cycle needs at least {int(np.ceil(1 / rise))} steps, not {steps}")
    return optax.cosine_onecycle_schedule(steps, peak, rise, div_factor=25.0, final_div_factor=4e3)


def staircase(peak: float, hold: int, every: int, factor: float) -> optax.Schedule:
    """Return `peak` for `hold` steps, then divided by `factor` every `every` steps.

    Zaremba et al. 2014, section 4, where `every` is an epoch. optax.exponential_decay differs: its
    stairs start at step 0 and multiply by a rounded 1 / factor.
    """
    falls = lambda step: jnp.maximum((step - hold) // every + 1, 0)
    return lambda step: peak * jnp.float32(factor) ** -falls(step)


def scaled(factory: ScheduleFactory, factors: np.ndarray) -> ScheduleFactory:
    """Return a factory of schedules that are multiplied by the factor of each step.

    Merity et al. 2017, section 4.1, where the factor is the length of the step's window over the
    usual length. After the last factor, it stays the same.
    """
    factors_of_steps = jnp.asarray(factors, jnp.float32)
    scale = lambda schedule: (
        lambda step: schedule(step) * factors_of_steps.at[step].get(mode="clip")
    )
    return _changed(factory, scale)


def with_peak(factory: ScheduleFactory, peak: float) -> ScheduleFactory:
    """Return a factory of schedules of the same shape whose highest learning rate is `peak`."""

    def scale(schedule: optax.Schedule) -> optax.Schedule:
        factor = peak / float(jnp.max(schedule(jnp.arange(HIGHEST_WITHIN))))
        return lambda step: factor * schedule(step)

    return _changed(factory, scale)


def _changed(
    factory: ScheduleFactory, change: Callable[[optax.Schedule], optax.Schedule]
) -> ScheduleFactory:
    if isinstance(factory, AnyLength):
        return AnyLength(change(factory.schedule))
    return lambda steps: change(factory(steps))


def _warm_up(peak: float, warmup: int, then: optax.Schedule) -> optax.Schedule:
    """Return linear warm-up to `peak`, then another schedule, whose steps count from 0."""
    rise = optax.linear_schedule(0.0, peak, max(warmup, 1))
    return optax.join_schedules([rise, then], [warmup])


def _check_warmup(warmup: int, steps: int) -> None:
    if not 0 <= warmup < steps:
        raise ValueError(
            f"a warm-up of {warmup} steps does not fit into {steps} steps: train for more --steps"
        )
