"""Prediction of the label of a text from the mean of its rows, for fastText (Joulin et al. 2017).

https://arxiv.org/abs/1607.01759, section 2. A block is one text: as in the released program, the
tables change after every text. Unlike in its skip-gram model, each row gets its part of the
gradient of the mean.

B batch  R rows of a text  C labels  K negative samples  H depth of the tree  O outputs  D width
"""

from collections.abc import Callable
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
from train.objectives.word_vectors import logistic
from zoo.layers.huffman import tree


class Outputs(Protocol):
    """How the mean of the rows of a text predicts its label."""

    def rows(self, block: Example) -> jax.Array:
        """Return the ids of the rows of `outputs` that are read: [O]."""
        ...

    def loss(self, logits_O: jax.Array, block: Example) -> jax.Array:
        """Return the loss, given the product of the mean and each of these rows."""
        ...


@objective
class LabelPrediction(RowObjective):
    """The loss of the label of each text; a batch is that of `train.data.batches.bags`."""

    outputs: Outputs = arrays()
    factors = {"label": 1.0}
    reported_term = "label"
    has_perplexity = False

    def num_blocks(self, batch: Example) -> jax.Array:
        return jnp.int32(len(batch["label"]))

    def block(self, batch: Example, number: jax.Array) -> Example:
        """Return one text of the batch."""
        text = {name: jnp.take(x, number, axis=0) for name, x in batch.items()}
        weight = (text["label"] >= 0).astype(jnp.float32)
        return text | {"label": jnp.maximum(text["label"], 0), "weights": {"label": weight}}

    def rows(self, block: Example) -> Rows:
        return {"rows": jnp.maximum(block["rows"], 0), "outputs": self.outputs.rows(block)}

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
        """Return the loss of a text: {"label": Term}."""
        is_row_R = (batch["rows"] >= 0).astype(jnp.float32)
        share_R = is_row_R / jnp.maximum(is_row_R.sum(), 1)
        x_D = share_R.astype(params["rows"].dtype) @ params["rows"]
        logits_O = (params["outputs"] @ x_D).astype(jnp.float32)
        loss = batch["weights"]["label"] * self.outputs.loss(logits_O, batch)
        return {"label": Term(loss, None)}, carry


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("num_labels",))
@dataclass(frozen=True)
class Softmax:
    """The label among all labels."""

    num_labels: int

    def rows(self, block: Example) -> jax.Array:
        return jnp.arange(self.num_labels)

    def loss(self, logits_C: jax.Array, block: Example) -> jax.Array:
        return -jax.nn.log_softmax(logits_C)[block["label"]]


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("num_labels",))
@dataclass(frozen=True)
class OneVsAll:
    """Every label by itself: whether it is that of the text."""

    num_labels: int

    def rows(self, block: Example) -> jax.Array:
        return jnp.arange(self.num_labels)

    def loss(self, logits_C: jax.Array, block: Example) -> jax.Array:
        signs_C = jnp.where(jnp.arange(self.num_labels) == block["label"], -1.0, 1.0)
        return logistic(signs_C * logits_C, jnp.ones_like(logits_C))


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True)
class NegativeSampling:
    """The label against others drawn at random."""

    def rows(self, block: Example) -> jax.Array:
        return jnp.append(block["label"], block["negatives"])

    def loss(self, logits_O: jax.Array, block: Example) -> jax.Array:
        signs_O = jnp.where(jnp.arange(len(logits_O)) == 0, -1.0, 1.0)
        return logistic(signs_O * logits_O, jnp.ones_like(logits_O))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HierarchicalSoftmax:
    """The label as a path through a binary tree.

    The logit of a node is that of turning right. In word2vec it is that of turning left.

    Attributes:
      nodes_CH: The inner nodes on the path to each label; beyond its end, 0.
      signs_CH: -1 where the path turns left and 1 where it turns right; beyond its end, 0.
    """

    nodes_CH: jax.Array
    signs_CH: jax.Array

    def rows(self, block: Example) -> jax.Array:
        return self.nodes_CH[block["label"]]

    def loss(self, logits_H: jax.Array, block: Example) -> jax.Array:
        signs_H = self.signs_CH[block["label"]]
        return logistic(-signs_H * logits_H, jnp.abs(signs_H))


# The names of `zoo.models.fasttext.LOSSES` -> the outputs, given how often each label occurs.
OUTPUTS: dict[str, Callable[[np.ndarray], Outputs]] = {
    "softmax": lambda counts: Softmax(len(counts)),
    "one-vs-all": lambda counts: OneVsAll(len(counts)),
    "negative-sampling": lambda counts: NegativeSampling(),
    "hierarchical-softmax": lambda counts: HierarchicalSoftmax(*map(jnp.asarray, tree(counts))),
}
