"""The optimizers of the papers, composed from optax transformations.

Each first clips the gradient by its global norm (`clip=None`: no clipping). Moments have the type
of the parameters, float32.
"""

import re
from typing import Protocol

import chex
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from train.optimization.weight_decay import Mask
from zoo.params import flatten

LAYER_KERNEL = re.compile(r"(attention|mlp)/\w+/kernel$")


class OptimizerFactory(Protocol):
    """Contract of the functions that create an optimizer, such as those of this file."""

    def __call__(
        self, schedule: optax.Schedule, *, decay_mask: Mask
    ) -> optax.GradientTransformation:
        """Return the optimizer; `decay_mask` is True for parameters with weight decay.

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
    """Return AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""
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
    """Return AdamW without bias correction, as in the released code of BERT and XLNet.

    XLNet omits the bias correction only if its weight decay is not 0.
    """
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
    """Return LAMB: AdamW with each update scaled by the norm of its tensor (the trust ratio).

    You et al. 2020, algorithm 2, but as in ALBERT's released code (and unlike optax.lamb) without
    bias correction and without the trust ratio on tensors that have no weight decay.
    """
    trust_ratio = optax.scale_by_trust_ratio()
    if decay_mask is not None:
        trust_ratio = optax.masked(trust_ratio, decay_mask)
    return _chain(
        clip,
        scale_by_uncorrected_adam(b1, b2, eps),
        optax.add_decayed_weights(decay, decay_mask),
        trust_ratio,
        optax.scale_by_learning_rate(schedule),
    )


def adafactor(
    schedule: optax.Schedule,
    smallest_scale: float | None = 1e-3,
    decay_mask: Mask | None = None,
    clip: float | None = None,
) -> optax.GradientTransformation:
    """Return T5's Adafactor: Adam with a factored second moment, no momentum and no weight decay.

    Shazeer and Stern 2018, sections 5 to 8: the moment decays by 1 - t ** -0.8, and the update of
    each tensor is clipped to a root mean square of 1. Only tensors with two axes of at least 128
    are factored. Attention kernels [D, H, K], which T5 stores as matrices, are mostly not factored.

    Args:
      schedule: Learning rates relative to the root mean square of each tensor.
      smallest_scale: Lower limit of that root mean square; None makes the learning rates absolute.
      decay_mask: Ignored, because there is no weight decay.
      clip: As for the other optimizers; T5 does not clip.
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


def muon(
    schedule: optax.Schedule,
    b1: float = 0.95,
    decay: float = 0.01,
    decay_mask: Mask | None = None,
    clip: float | None = 1.0,
) -> optax.GradientTransformation:
    """Return Muon for the kernels of a Transformer's layers, and Adam for all other parameters.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/: the momentum of a matrix is
    replaced by a matrix with the same singular vectors and singular values near one. It is scaled
    to a root mean square of 0.2, about that of Adam's updates, so that all parameters have the same
    learning rate (Liu et al. 2025, section 2.2, https://arxiv.org/abs/2502.16982). Both momentums
    are Nesterov's.
    """
    direction = optax.contrib.muon(
        -1.0, beta=b1, consistent_rms=0.2, muon_weight_dimension_numbers=_matrices
    )
    return _chain(
        clip,
        direction,
        optax.add_decayed_weights(decay, decay_mask),
        optax.scale_by_learning_rate(schedule),
    )


def _matrices(params: chex.ArrayTree) -> chex.ArrayTree:
    """Return which axes of each kernel of a layer are its inputs and outputs; else None.

    Raises:
      ValueError: If there are no such kernels.
    """
    paths = flatten(params)
    if not any(LAYER_KERNEL.search(path) for path in paths):
        raise ValueError("Muon is for Transformers, whose layers have kernels: use adamw")

    def axes(path, rank):
        if not LAYER_KERNEL.search(path):
            return None
        inputs = rank - 1 if path.endswith("output/kernel") else 1  # [H, K, D]; [D, H, K] or [D, F]
        return MuonDimensionNumbers(tuple(range(inputs)), tuple(range(inputs, rank)))

    leaves = [axes(path, leaf.ndim) for path, leaf in paths.items()]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def sgd(
    schedule: optax.Schedule,
    decay: float = 0.0,
    decay_mask: Mask | None = None,
    clip: float | None = 5.0,
) -> optax.GradientTransformation:
    """Return stochastic gradient descent without momentum; weight decay joins the gradient."""
    return _chain(
        clip,
        optax.add_decayed_weights(decay, decay_mask),
        optax.scale_by_learning_rate(schedule),
    )


def adagrad(
    schedule: optax.Schedule,
    initial_accumulator: float = 0.1,
    decay_mask: Mask | None = None,
    clip: float | None = 1.0,
) -> optax.GradientTransformation:
    """Return Adagrad (Duchi et al. 2011), without weight decay.

    `initial_accumulator` is what the sums of squared gradients start at.
    """
    return _chain(
        clip,
        optax.scale_by_rss(initial_accumulator, eps=0.0),
        optax.scale_by_learning_rate(schedule),
    )


def adadelta(
    schedule: optax.Schedule, decay_mask: Mask | None = None, clip: float | None = 1.0
) -> optax.GradientTransformation:
    """Return Adadelta (Zeiler 2012) with the settings of Bahdanau et al. 2014."""
    return _chain(
        clip,
        optax.scale_by_adadelta(rho=0.95, eps=1e-6),
        optax.scale_by_learning_rate(schedule),
    )


def freeze(optimizer: optax.GradientTransformation, path: str) -> optax.GradientTransformation:
    """Return the optimizer without one parameter, which keeps its value and has no state."""
    label = lambda tree: jax.tree.unflatten(
        jax.tree.structure(tree),
        ["frozen" if name == path else "trained" for name in flatten(tree)],
    )
    parts = {"trained": optimizer, "frozen": optax.set_to_zero()}
    return optax.partition(parts, label)


def scale_by_uncorrected_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return optax.scale_by_adam without bias correction, which optax cannot disable."""

    def update(gradients, state, params=None):
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(optax.safe_increment(state.count), mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _chain(clip, *parts):
    return optax.chain(*([] if clip is None else [optax.clip_by_global_norm(clip)]), *parts)
