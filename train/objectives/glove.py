"""Weighted least squares of the logarithms of counts, for GloVe (Pennington et al. 2014).

B batch  N pairs of a block  M pairs in both orders, 2 N  D width
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.objective import Example, Term, objective
from train.objectives.row_objective import RowObjective, Rows


@objective
class WeightedLeastSquares(RowObjective):
    """The loss f(X) / 2 (w . c + b + b' - ln X)^2 of a pair that occurs X times (equation 8).

    A batch is that of `train.data.batches.cooccurrences`. A block has its pairs in both orders, so
    that every word is the first of its pairs and the second. The paper has no factor 1/2; the
    released program has it in the loss that it reports, and its gradient.
    """

    block_size: int
    x_max: float = 100.0
    power: float = 0.75
    factors = {"pair": 1.0}
    reported_term = "pair"
    has_perplexity = False
    loss_unit = "weighted squared error per pair"

    def unigram_loss(self, entropy: float, length: int) -> None:
        """Return None: a model of single words has no counts of pairs."""

    def num_blocks(self, batch: Example) -> jax.Array:
        return -(-jnp.max(batch["size"]) // self.block_size)

    def block(self, batch: Example, number: jax.Array) -> Example:
        N = self.block_size
        cut = lambda name: jax.lax.dynamic_slice_in_dim(batch[name], number * N, N, 1)
        first_BN, second_BN, count_BN = cut("first"), cut("second"), cut("count")
        # A word with itself is the same pair in both orders.
        other_BN = jnp.where(first_BN == second_BN, 0, count_BN)
        count_BM = jnp.concatenate([count_BN, other_BN], 1)
        return {
            "words": jnp.concatenate([first_BN, second_BN], 1),
            "contexts": jnp.concatenate([second_BN, first_BN], 1),
            "count": count_BM,
            "weights": {"pair": (count_BM > 0).astype(jnp.float32)},
        }

    def rows(self, block: Example) -> Rows:
        words_BM, contexts_BM = block["words"], block["contexts"]
        return {
            "words": words_BM,
            "contexts": contexts_BM,
            "word_bias": words_BM,
            "context_bias": contexts_BM,
        }

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
        count_BM = batch["count"]
        dots_BM = (params["words"] * params["contexts"]).sum(-1, dtype=jnp.float32)
        biases_BM1 = params["word_bias"] + params["context_bias"]
        logs_BM = jnp.log(jnp.where(count_BM > 0, count_BM, 1))
        errors_BM = dots_BM + biases_BM1[..., 0].astype(jnp.float32) - logs_BM
        weights_BM = jnp.minimum(count_BM / self.x_max, 1) ** self.power  # f(X): equation 9
        return {"pair": Term((weights_BM * errors_BM**2).sum() / 2, None)}, carry
