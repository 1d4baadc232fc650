"""The papers' optimizers, put together from optax's parts.

Each clips the gradient by its global norm first (`clip=None`: not at all). Moments have the type of
the parameters, which is float32.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from train.optimization.weight_decay import Mask


class OptimizerFactory(Protocol):
    """Makes an optimizer for a schedule of learning rates, such as any function of this file."""

    def __call__(
        self, schedule: optax.Schedule, *, decay_mask: Mask
    ) -> optax.GradientTransformation:
        """Return the optimizer; `decay_mask` is True for parameters that weight decay applies to.

        An optimizer without weight decay ignores the mask.
        """
        ...


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
    schedule: optax.Schedule,
    smallest_scale: float | None = 1e-3,
    decay_mask: Mask | None = None,
    clip: float | None = None,
) -> optax.GradientTransformation:
    """T5's Adafactor: Adam with a factored second moment, without momentum and without decay.

    Shazeer and Stern 2018, sections 5 to 8: the moment decays by 1 - t ** -0.8, and each tensor's
    update is clipped to a root mean square of 1. Only tensors with two axes of 128 or more are
    factored; attention's [D, H, K] kernels, which T5 stores flat, mostly are not.

    Args:
      schedule: Learning rates relative to the root mean square of each tensor.
      smallest_scale: The least such root mean square; None makes the rates absolute.
      decay_mask: Ignored, since nothing is decayed.
      clip: As for the others; T5 has none.
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
    """Return optax.scale_by_adam without its bias correction, which optax cannot leave out."""

    def update(gradients, state, params=None):
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(optax.safe_increment(state.count), mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _chain(clip, *parts):
    return optax.chain(*([] if clip is None else [optax.clip_by_global_norm(clip)]), *parts)
