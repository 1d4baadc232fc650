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
    """What the words of a block are predicted from."""

    def rows(self, block: Example) -> Rows:
        """Return the ids of the rows that are read."""
        ...

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        """Return the words to predict, targets_BM, and which input predicts which, pairs_BNM."""
        ...

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        """Return the vectors that predict: x_BND."""
        ...


class Outputs(Protocol):
    """How a vector predicts words."""

    def rows(self, targets_BM: jax.Array, block: Example) -> jax.Array:
        """Return the ids of the rows of `outputs` that are read."""
        ...

    def loss(
        self,
        x_BND: jax.Array,
        rows: jax.Array,
        targets_BM: jax.Array,
        pairs_BNM: jax.Array,
        block: Example,
    ) -> jax.Array:
        """Return the sum of the losses of all pairs."""
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

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Return the example: its random draws are made by the batch source."""
        return example

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
        reach_BN1 = cut("reach", N)[..., None]
        distance_NM = np.abs(np.arange(N + 2 * W) - W - np.arange(N)[:, None])
        near_BNM = (distance_NM > 0) & (distance_NM <= reach_BN1)
        same_BNM = lines_BM[:, None] == lines_BM[:, W : W + N, None]
        pairs_BNM = (near_BNM & same_BNM).astype(jnp.float32)
        block = {"words": cut("words", N + 2 * W), "context": pairs_BNM}
        for name in ("negatives", "subwords", "owners"):
            if name in batch:
                block[name] = batch[name][:, number]
        _, predicted_BNM = self.inputs.targets(block)
        return block | {"weights": {"pair": predicted_BNM}}

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
        targets_BM, pairs_BNM = self.inputs.targets(batch)
        x_BND = self.inputs.vectors(params, batch)
        total = self.outputs.loss(x_BND, params["outputs"], targets_BM, pairs_BNM, batch)
        return {"pair": Term(total, None)}, carry


@dataclass(frozen=True)
class SkipGram:
    """Every word of the block predicts the words around it."""

    window: int

    def rows(self, block: Example) -> Rows:
        return {"words": _centres(block["words"], self.window)}

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        return block["words"], block["context"]

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        return rows["words"]


@dataclass(frozen=True)
class CBOW:
    """The mean of the words around it predicts every word of the block.

    As in the released program, every word of a context gets the whole gradient of the mean.
    """

    window: int

    def rows(self, block: Example) -> Rows:
        return {"words": block["words"]}

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        has_context_BN1 = block["context"].max(-1, keepdims=True)
        N = has_context_BN1.shape[1]
        return _centres(block["words"], self.window), has_context_BN1 * jnp.eye(N)

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        sums_BND = jnp.einsum("BNM,BMD->BND", block["context"], rows["words"])
        return _undivided(sums_BND, block["context"].sum(-1, keepdims=True))


@dataclass(frozen=True)
class SubwordSkipGram:
    """Skip-gram whose inputs are the means of the rows of a word and of its n-grams (fastText).

    As in the released program, every row gets the whole gradient of the mean.
    """

    window: int

    def rows(self, block: Example) -> Rows:
        return {"rows": block["subwords"]}

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        return block["words"], block["context"]

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        return _centres(_undivided(*_sums(rows["rows"], block)), self.window)


@dataclass(frozen=True)
class SubwordCBOW:
    """CBOW whose input is the mean of the rows of all words of a context (fastText)."""

    window: int

    def rows(self, block: Example) -> Rows:
        return {"rows": block["subwords"]}

    def targets(self, block: Example) -> tuple[jax.Array, jax.Array]:
        return CBOW(self.window).targets(block)

    def vectors(self, rows: Rows, block: Example) -> jax.Array:
        sums_BMD, sizes_BM1 = _sums(rows["rows"], block)
        over_context = lambda x: jnp.einsum("BNM,BMD->BND", block["context"], x)
        return _undivided(over_context(sums_BMD), over_context(sizes_BM1))


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("negatives",))
@dataclass(frozen=True)
class NegativeSampling:
    """A word against words drawn at random (Mikolov et al. 2013b, equation 4).

    A sample that is the word itself is left out. `negatives` is their number for each pair.
    """

    negatives: int

    def rows(self, targets_BM: jax.Array, block: Example) -> jax.Array:
        return jnp.concatenate([targets_BM, block["negatives"]], 1)

    def loss(
        self,
        x_BND: jax.Array,
        rows: jax.Array,
        targets_BM: jax.Array,
        pairs_BNM: jax.Array,
        block: Example,
    ) -> jax.Array:
        M, K = targets_BM.shape[1], block["negatives"].shape[1]
        equal_BMK = targets_BM[..., None] == block["negatives"][:, None]
        drawn_BNK = pairs_BNM.sum(-1, keepdims=True) - pairs_BNM @ equal_BMK.astype(jnp.float32)
        weights_BNO = jnp.concatenate([pairs_BNM, drawn_BNK * (self.negatives / K)], -1)
        signs_O = np.where(np.arange(M + K) < M, -1.0, 1.0).astype(np.float32)
        logits_BNO = jnp.einsum("BND,BOD->BNO", x_BND, rows).astype(jnp.float32)
        return (weights_BNO * jax.nn.softplus(signs_O * logits_BNO)).sum()

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

    def loss(
        self,
        x_BND: jax.Array,
        rows: jax.Array,
        targets_BM: jax.Array,
        pairs_BNM: jax.Array,
        block: Example,
    ) -> jax.Array:
        signs_BMH = self.signs_VH[targets_BM]
        logits_BNMH = jnp.einsum("BND,BMHD->BNMH", x_BND, rows).astype(jnp.float32)
        losses_BNMH = (
            jax.nn.softplus(signs_BMH[:, None] * logits_BNMH) * jnp.abs(signs_BMH)[:, None]
        )
        return (pairs_BNM[..., None] * losses_BNMH).sum()

    def unigram_loss(self, entropy: float) -> float:
        return entropy


def _centres(x: jax.Array, window: int) -> jax.Array:
    """Return a block without the words on both sides."""
    return x[:, window : x.shape[1] - window]


def _sums(rows_BSD: jax.Array, block: Example) -> tuple[jax.Array, jax.Array]:
    """Return the sum of the rows of each word of a block, and their number."""
    owners_BS, M = block["owners"], block["words"].shape[1]
    is_owner_BMS = (jnp.arange(M)[:, None] == owners_BS[:, None]).astype(rows_BSD.dtype)
    sums_BMD = jnp.einsum("BMS,BSD->BMD", is_owner_BMS, rows_BSD)
    return sums_BMD, is_owner_BMS.sum(-1, keepdims=True)


def _undivided(sums: jax.Array, sizes: jax.Array) -> jax.Array:
    """Return means, whose gradient is that of the sums."""
    return sums + jax.lax.stop_gradient(sums / jnp.maximum(sizes, 1) - sums)
