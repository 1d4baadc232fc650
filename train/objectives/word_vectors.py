"""Prediction of words from word vectors, for word2vec and fastText (Mikolov et al. 2013).

A block is a run of words of a text, with the words on both sides that are in the window of its
first or last one. Its words share the negative samples, so that all logits of the block are two
matrix products; each word still weighs them as if it had drawn `negatives` of its own for each word
that it predicts (Ji et al. 2016, https://arxiv.org/abs/1604.04661). What this costs in quality is
in tests/speed/README.md.

What a block predicts from (`Inputs`) and how (`Outputs`) are two parts, which all models combine.

B batch  N words of a block  M targets  K negative samples  H depth of the tree  S rows of n-grams
D width
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from train.objectives.objective import Example, Term, arrays, objective
from train.objectives.row_objective import RowObjective, Rows


class Inputs(Protocol):
    """What words are predicted from: x_BND predicts some of the targets_BM.

    The pairs of an input and a target are an array [B, N, P]: all targets, or the one of its own.
    """

    def rows(self, block: Example) -> Rows:
        """Return the ids of the rows that are read."""
        ...

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        """Return the vectors that predict: x_BND."""
        ...

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        """Return the words to predict, targets_BM, and 1 for every true pair, pairs_BNP."""
        ...

    def logits(self, x_BND: jax.Array, rows_BMHD: jax.Array) -> jax.Array:
        """Return the products of each pair with the H rows of its target: logits_BNPH."""
        ...

    def logits_with_noise(self, x_BND: jax.Array, rows_BOD: jax.Array, noise: int) -> jax.Array:
        """Return the products of each pair, then those of each input with the last `noise` rows.

        The other rows are those of the targets: logits_BNO, where O is P + noise.
        """
        ...

    def of_pairs(self, values_BMH: jax.Array) -> jax.Array:
        """Return values of targets for each pair, to be broadcast: values_BNPH."""
        ...

    def sums(self, pairs_BNP: jax.Array, values_BMK: jax.Array) -> jax.Array:
        """Return the sums of values of targets over the true pairs of each input: sums_BNK."""
        ...


class Outputs(Protocol):
    """How a vector predicts words."""

    def rows(self, targets_BM: jax.Array, block: Example) -> jax.Array:
        """Return the ids of the rows of `outputs` that are read."""
        ...

    def loss(self, inputs: Inputs, x_BND: jax.Array, rows: jax.Array, block: Example) -> jax.Array:
        """Return the sum of the losses of all true pairs."""
        ...

    def unigram_loss(self, entropy: float) -> float:
        """Return the loss per pair of a model whose logits do not depend on its inputs."""
        ...


@objective
class WordPrediction(RowObjective):
    """The loss of a word's neighbours, or of a word given its neighbours, per pair.

    A batch is that of `train.data.batches.subsampled`. `window` is the most words on one side.
    """

    inputs: Inputs
    block_size: int
    window: int
    outputs: Outputs = arrays()
    factors = {"pair": 1.0}
    reported_term = "pair"
    has_perplexity = False
    loss_unit = "nats per pair"

    def unigram_loss(self, entropy: float, length: int) -> float:
        """Return the loss of a model whose logits do not depend on its inputs."""
        return self.outputs.unigram_loss(entropy)

    def num_blocks(self, batch: Example) -> jax.Array:
        return -(-jnp.max(batch["size"]) // self.block_size)

    def block(self, batch: Example, number: jax.Array) -> Example:
        N, W = self.block_size, self.window
        start = number * N
        cut = lambda name, size: jax.lax.dynamic_slice_in_dim(batch[name], start, size, 1)
        lines_BM = cut("lines", N + 2 * W)
        own_BN1 = _centres(lines_BM, W)[..., None]
        reach_BN1 = cut("reach", N)[..., None]
        distance_NM = np.abs(np.arange(N + 2 * W) - W - np.arange(N)[:, None])
        near_BNM = (distance_NM > 0) & (distance_NM <= reach_BN1)
        same_BNM = (lines_BM[:, None] == own_BN1) & (own_BN1 >= 0)
        pairs_BNM = (near_BNM & same_BNM).astype(jnp.float32)
        block = {"words": cut("words", N + 2 * W), "context": pairs_BNM}
        for name in ("negatives", "subwords", "owners"):
            if name in batch:
                block[name] = batch[name][:, number]
        _, pairs_BNP = self.inputs.targets(block)
        return block | {"weights": {"pair": pairs_BNP}}

    def rows(self, block: Example) -> Rows:
        targets_BM, _ = self.inputs.targets(block)
        return {**self.inputs.rows(block), "outputs": self.outputs.rows(targets_BM, block)}

    def loss(
        self,
        model: nn.Module,
        params: chex.ArrayTree,
        batch: Example,
        carry: chex.ArrayTree,
        key: chex.PRNGKey,
        *,
        train: bool,
    ) -> tuple[dict[str, Term], chex.ArrayTree]:
        """Return the loss of all pairs of a block: {"pair": Term}."""
        x_BND = self.inputs.vectors(params, batch)
        total = self.outputs.loss(self.inputs, x_BND, params["outputs"], batch)
        return {"pair": Term(total, None)}, carry


@dataclass(frozen=True)
class SkipGram:
    """Every word of the block predicts the words around it: P = M."""

    window: int

    def rows(self, block: Example) -> Rows:
        return {"words": _centres(block["words"], self.window)}

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        return rows["words"]

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        return block["words"], block["context"]

    def logits(self, x_BND: jax.Array, rows_BMHD: jax.Array) -> jax.Array:
        return jnp.einsum("BND,BMHD->BNMH", x_BND, rows_BMHD)

    def logits_with_noise(self, x_BND: jax.Array, rows_BOD: jax.Array, noise: int) -> jax.Array:
        return jnp.einsum("BND,BOD->BNO", x_BND, rows_BOD)

    def of_pairs(self, values_BMH: jax.Array) -> jax.Array:
        return values_BMH[:, None]

    def sums(self, pairs_BNP: jax.Array, values_BMK: jax.Array) -> jax.Array:
        return pairs_BNP @ values_BMK


@dataclass(frozen=True)
class CBOW:
    """The mean of the words around it predicts every word of the block: M = N, P = 1.

    As in the released program, every word of a context gets the whole gradient of the mean.
    """

    window: int

    def rows(self, block: Example) -> Rows:
        return {"words": block["words"]}

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        sums_BND = block["context"] @ rows["words"]
        return _undivided(sums_BND, block["context"].sum(-1, keepdims=True))

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        has_context_BN1 = block["context"].max(-1, keepdims=True)
        return _centres(block["words"], self.window), has_context_BN1

    def logits(self, x_BND: jax.Array, rows_BMHD: jax.Array) -> jax.Array:
        return jnp.einsum("BND,BNHD->BNH", x_BND, rows_BMHD)[:, :, None]

    def logits_with_noise(self, x_BND: jax.Array, rows_BOD: jax.Array, noise: int) -> jax.Array:
        logits_BN = jnp.einsum("BND,BND->BN", x_BND, rows_BOD[:, :-noise])
        noise_BNK = jnp.einsum("BND,BKD->BNK", x_BND, rows_BOD[:, -noise:])
        return jnp.concatenate([logits_BN[..., None], noise_BNK], -1)

    def of_pairs(self, values_BMH: jax.Array) -> jax.Array:
        return values_BMH[:, :, None]

    def sums(self, pairs_BNP: jax.Array, values_BMK: jax.Array) -> jax.Array:
        return pairs_BNP * values_BMK


class SubwordSkipGram(SkipGram):
    """Skip-gram whose inputs are the means of the rows of a word and of its n-grams (fastText).

    As in the released program, every row gets the whole gradient of the mean.
    """

    def rows(self, block: Example) -> Rows:
        return {"rows": block["subwords"]}

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        return _centres(_undivided(*_sums(rows["rows"], block)), self.window)


class SubwordCBOW(CBOW):
    """CBOW whose input is the mean of the rows of all words of a context (fastText)."""

    def rows(self, block: Example) -> Rows:
        return {"rows": block["subwords"]}

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        sums_BMD, sizes_BM1 = _sums(rows["rows"], block)
        return _undivided(block["context"] @ sums_BMD, block["context"] @ sizes_BM1)


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("negatives",))
@dataclass(frozen=True)
class NegativeSampling:
    """A word against words drawn at random (Mikolov et al. 2013b, equation 4).

    A sample that is the word itself is left out. `negatives` is their number for each pair.
    """

    negatives: int

    def rows(self, targets_BM: jax.Array, block: Example) -> jax.Array:
        return jnp.concatenate([targets_BM, block["negatives"]], 1)

    def loss(self, inputs: Inputs, x_BND: jax.Array, rows: jax.Array, block: Example) -> jax.Array:
        targets_BM, pairs_BNP = inputs.targets(block)
        K = block["negatives"].shape[1]
        logits_BNO = inputs.logits_with_noise(x_BND, rows, K)
        P = pairs_BNP.shape[-1]
        equal_BMK = targets_BM[..., None] == block["negatives"][:, None]
        drawn_BNK = inputs.sums(pairs_BNP, 1 - equal_BMK.astype(jnp.float32))
        weights_BNO = jnp.concatenate([pairs_BNP, drawn_BNK * (self.negatives / K)], -1)
        signs_O = np.where(np.arange(P + K) < P, -1, 1).astype(np.float32)
        return logistic(signs_O * logits_BNO, weights_BNO)

    def unigram_loss(self, entropy: float) -> float:
        """Return the loss with the best constant for all logits, which is right 1 time in k + 1."""
        k = self.negatives
        return math.log(1 + k) + k * math.log(1 + 1 / k)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HierarchicalSoftmax:
    """A word as a path through a binary tree (Mikolov et al. 2013b, equation 3).

    Attributes:
      nodes_VH: The inner nodes on the path to each word; beyond its end, 0.
      signs_VH: -1 where the path turns left, which the program calls the code 0, and 1 where it
        turns right; beyond its end, 0.
    """

    nodes_VH: jax.Array
    signs_VH: jax.Array

    def rows(self, targets_BM: jax.Array, block: Example) -> jax.Array:
        return self.nodes_VH[targets_BM]

    def loss(self, inputs: Inputs, x_BND: jax.Array, rows: jax.Array, block: Example) -> jax.Array:
        targets_BM, pairs_BNP = inputs.targets(block)
        signs_BNPH = inputs.of_pairs(self.signs_VH[targets_BM])
        logits_BNPH = signs_BNPH * inputs.logits(x_BND, rows)
        return logistic(logits_BNPH, pairs_BNP[..., None] * jnp.abs(signs_BNPH))

    def unigram_loss(self, entropy: float) -> float:
        return entropy


@jax.custom_vjp
def logistic(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the sum of weights * ln(1 + exp(x)), where x < 0 is right; x has any shape.

    The gradient is computed with the loss, so that both share one exponential.
    """
    return _logistic(x, weights)[0]


def _logistic(x, weights):
    small = jnp.exp(-jnp.abs(x.astype(jnp.float32)))
    loss = (weights * (jnp.maximum(x, 0) + jnp.log1p(small))).sum()
    gradient = weights * jnp.where(x > 0, 1, small) / (1 + small)
    return loss, gradient.astype(x.dtype)


logistic.defvjp(_logistic, lambda gradient, cotangent: (cotangent * gradient, None))


def _centres(x: jax.Array, window: int) -> jax.Array:
    """Return a block without the words on both sides."""
    return x[:, window : x.shape[1] - window]


def _sums(rows_BSD: jax.Array, block: Example) -> tuple[jax.Array, jax.Array]:
    """Return the sum of the rows of each word of a block, and their number; owner -1 is padding."""
    M = block["words"].shape[1]
    add_up = jax.vmap(lambda x, owners: jax.ops.segment_sum(x, owners, M))
    sizes_BM1 = add_up(jnp.ones((*rows_BSD.shape[:2], 1)), block["owners"])
    return add_up(rows_BSD, block["owners"]), sizes_BM1


def _undivided(sums: jax.Array, sizes: jax.Array) -> jax.Array:
    """Return means, whose gradient is that of the sums."""
    return sums + jax.lax.stop_gradient(sums / jnp.maximum(sizes, 1) - sums)
