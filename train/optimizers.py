"""Schedules, weight decay by path, and the papers' optimizers, put together from optax's parts.

A schedule is a pure function of `step`, the number of updates already made: the first update has
the rate of step 0, and a resumed run has the rates of an uninterrupted one. Past its last step it
stays where it ended.
"""

import re
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

# What most papers leave undecayed. XLNet's content_bias, position_bias and segment_bias are no
# match, rightly: its authors decay them. Rank would be no guide: a bias may have the shape [H, K].
BIASES_AND_NORMS = (r"(^|/)bias$", r"norm[^/]*/scale$")

Mask = Callable[[optax.Params], optax.Params]


# Schedules


def constant(peak: float) -> optax.Schedule:
    """Hold one rate for ever."""
    return lambda step: jnp.asarray(peak, jnp.float32)


def linear(peak: float, warmup: int, steps: int, end: float = 0.0) -> optax.Schedule:
    """Rise linearly from 0 to `peak` at step `warmup`, then fall linearly to `end` at `steps`.

    XLNet's, with end = peak / 1000. Raises ValueError if the warm-up leaves no step.
    """
    _check_room(warmup, steps)
    fall = optax.linear_schedule(peak, end, steps - warmup, transition_begin=warmup)
    return _after_warmup(peak, warmup, fall)


def bert_linear(peak: float, warmup: int, steps: int) -> optax.Schedule:
    """Rise linearly to `peak`, then join the line from `peak` at step 0 down to 0 at `steps`.

    So at step `warmup` the rate jumps down by the fraction warmup / steps, as in the released code
    of BERT and ALBERT. Raises ValueError if the warm-up leaves no step.
    """
    _check_room(warmup, steps)
    return _after_warmup(peak, warmup, optax.linear_schedule(peak, 0.0, steps))


def cosine(peak: float, warmup: int, steps: int, end: float = 0.0) -> optax.Schedule:
    """Rise linearly to `peak`, then fall along half a cosine to `end` at `steps`.

    Loshchilov and Hutter 2017, equation 5, without restarts. Raises ValueError if the warm-up
    leaves no step.
    """
    _check_room(warmup, steps)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end)


def inverse_square_root(peak: float, warmup: int) -> optax.Schedule:
    """Rise linearly to `peak`, then fall as peak * sqrt(warmup / step): it has no last step.

    Vaswani et al. 2017, equation 3, where peak = (width * warmup) ** -0.5. A warm-up of 0 starts at
    `peak` and then falls as one of 1 does.
    """
    knee = max(warmup, 1)
    return _after_warmup(peak, warmup, lambda step: peak * jnp.sqrt(knee / jnp.maximum(step, knee)))


def slanted_triangular(
    peak: float, steps: int, cut: float = 0.1, ratio: float = 32.0
) -> optax.Schedule:
    """Rise linearly from peak / ratio over the fraction `cut` of the steps, then fall back to it.

    Howard and Ruder 2018, equation 3. Where cut * steps is not whole, the equation ends below
    peak / ratio, even below 0; the fall here takes the steps that are left, which is the same where
    it is whole. Raises ValueError if the rise leaves no step.
    """
    top = int(cut * steps)
    _check_room(top, steps)
    rise = optax.linear_schedule(peak / ratio, peak, max(top, 1))
    fall = optax.linear_schedule(peak, peak / ratio, steps - top, transition_begin=top)
    return lambda step: jnp.where(step < top, rise(step), fall(step))


def one_cycle(peak: float, steps: int, rise: float = 0.25) -> optax.Schedule:
    """Rise along half a cosine from peak / 25, then fall along another to peak / 100,000.

    The rise takes the fraction `rise` of the steps. Smith 2018, in fast.ai's form and with its
    defaults; the opposite cycle of the momentum is left out. Raises ValueError for too few steps.
    """
    if int(rise * steps) < 1:
        raise ValueError(f"one cycle needs at least {int(np.ceil(1 / rise))} steps, not {steps}")
    return optax.cosine_onecycle_schedule(steps, peak, rise, div_factor=25.0, final_div_factor=4e3)


def staircase(peak: float, hold: int, every: int, factor: float) -> optax.Schedule:
    """Hold `peak` for `hold` steps, then divide it by `factor`, again after `every` steps more.

    Zaremba et al. 2014, section 4, where `every` is an epoch.
    """
    falls = lambda step: jnp.maximum((step - hold) // every + 1, 0)
    return lambda step: peak * jnp.float32(factor) ** -falls(step)


def _after_warmup(peak, warmup, then):
    rise = optax.linear_schedule(0.0, peak, max(warmup, 1))
    return lambda step: jnp.where(step < warmup, rise(step), then(step))


def _check_room(warmup, steps):
    if not 0 <= warmup < steps:
        raise ValueError(
            f"a warm-up of {warmup} steps does not fit {steps} steps: shorten it or train longer"
        )


# Weight decay by path


def undecayed(patterns: Sequence[str]) -> Mask:
    """Return the mask of weight decay: True for all leaves but those whose path matches a pattern.

    Patterns are regular expressions, searched for in paths like "blocks_0/mlp/up/bias". One that
    matches nothing makes the mask raise ValueError: a renamed parameter would be decayed unseen.
    """

    def mask(params):
        paths = [_path(keys) for keys, _ in jax.tree.leaves_with_path(params)]
        idle = [p for p in patterns if not any(re.search(p, path) for path in paths)]
        if idle:
            raise ValueError(
                f"no parameter matches {' or '.join(idle)}: correct what is not to be decayed"
            )
        return jax.tree.map_with_path(
            lambda keys, _: not any(re.search(p, _path(keys)) for p in patterns), params
        )

    return mask


def table(params: optax.Params, patterns: Sequence[str]) -> list[str]:
    """Return the lines that show what is decayed and what is not: leaves, parameters and paths.

    Args:
      params: arrays or shapes.
      patterns: as for `undecayed`. `blocks_0`, `blocks_1`, ... are shown as one, `blocks_*`.
    """
    groups = {True: [], False: []}
    decayed = jax.tree.leaves(undecayed(patterns)(params))
    for (keys, leaf), is_decayed in zip(jax.tree.leaves_with_path(params), decayed, strict=True):
        groups[is_decayed].append((re.sub(r"_\d+(?=/|$)", "_*", _path(keys)), np.prod(leaf.shape)))
    lines = [f"{'weight decay':<12}  {'leaves':>6}  {'parameters':>14}  paths"]
    for name, leaves in (("decayed", groups[True]), ("not decayed", groups[False])):
        count = int(sum(size for _, size in leaves))
        paths = _some(dict.fromkeys(path for path, _ in leaves))
        lines.append(f"{name:<12}  {len(leaves):>6}  {count:>14,}  {paths}".rstrip())
    return lines


def _path(keys):
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _some(paths: Iterable[str], shown: int = 4) -> str:
    paths = list(paths)
    more = [f"and {len(paths) - shown} more"] if len(paths) > shown else []
    return ", ".join(paths[:shown] + more)


# Optimizers. Each clips the gradient by its global norm first (`clip=None`: not at all). Moments
# have the type of the parameters, which is float32.


def adamw(
    schedule: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    decay: float = 0.01,
    decay_mask: Mask | None = None,
    clip: float | None = 1.0,
) -> optax.GradientTransformation:
    """Adam, and weight decay outside of it (Loshchilov and Hutter 2019, algorithm 2)."""
    return _chain(
        clip,
        optax.scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(decay, decay_mask),
        optax.scale_by_learning_rate(schedule),
    )


def adamw_bert(
    schedule: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    decay: float = 0.01,
    decay_mask: Mask | None = None,
    clip: float | None = 1.0,
) -> optax.GradientTransformation:
    """AdamW without bias correction: the released code of BERT, and of XLNet if decay is not 0."""
    return _chain(
        clip,
        scale_by_uncorrected_adam(b1, b2, eps),
        optax.add_decayed_weights(decay, decay_mask),
        optax.scale_by_learning_rate(schedule),
    )


def lamb(
    schedule: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    decay: float = 0.01,
    decay_mask: Mask | None = None,
    clip: float | None = 1.0,
) -> optax.GradientTransformation:
    """AdamW whose step on each tensor has the tensor's own length times the rate.

    You et al. 2020, algorithm 2, but as in ALBERT's released code (and unlike optax.lamb) without
    bias correction, and with undecayed tensors taking their step as it is.
    """
    as_long_as_the_tensor = optax.scale_by_trust_ratio()
    if decay_mask is not None:
        as_long_as_the_tensor = optax.masked(as_long_as_the_tensor, decay_mask)
    return _chain(
        clip,
        scale_by_uncorrected_adam(b1, b2, eps),
        optax.add_decayed_weights(decay, decay_mask),
        as_long_as_the_tensor,
        optax.scale_by_learning_rate(schedule),
    )


def adafactor(
    schedule: optax.Schedule, smallest_scale: float | None = 1e-3, clip: float | None = None
) -> optax.GradientTransformation:
    """T5's Adafactor: Adam with a factored second moment, without momentum and without decay.

    Shazeer and Stern 2018, sections 5 to 8: the moment decays by 1 - t ** -0.8, and each tensor's
    update is clipped to a root mean square of 1. Only tensors with two axes of 128 or more are
    factored; attention's [D, H, K] kernels, which T5 stores flat, mostly are not.

    Args:
      schedule: rates relative to the root mean square of each tensor.
      smallest_scale: the least such root mean square; None makes the rates absolute.
      clip: as for the others; T5 has none.
    """
    scale = (
        optax.identity()
        if smallest_scale is None
        else optax.scale_by_param_block_rms(smallest_scale)
    )
    return _chain(
        clip,
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        scale,
        optax.scale_by_learning_rate(schedule),
    )


def sgd(
    schedule: optax.Schedule, decay_mask: Mask | None = None, clip: float | None = 5.0
) -> optax.GradientTransformation:
    """Stochastic gradient descent, without momentum and without decay."""
    return _chain(clip, optax.scale_by_learning_rate(schedule))


def adadelta(
    schedule: optax.Schedule, decay_mask: Mask | None = None, clip: float | None = 1.0
) -> optax.GradientTransformation:
    """Adadelta (Zeiler 2012) as Bahdanau et al. 2014 have it: rho 0.95, epsilon 1e-6, no decay."""
    return _chain(
        clip,
        optax.scale_by_adadelta(rho=0.95, eps=1e-6),
        optax.scale_by_learning_rate(schedule),
    )


def scale_by_uncorrected_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax.scale_by_adam without its bias correction, which optax cannot leave out; same state."""

    def update(gradients, state, params=None):
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(optax.safe_increment(state.count), mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _chain(clip, *parts):
    return optax.chain(*([] if clip is None else [optax.clip_by_global_norm(clip)]), *parts)
