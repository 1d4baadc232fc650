"""The attention mask as rules, and the positions of tokens in their documents."""

from functools import reduce
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Mask:
    """An attention mask, as rules instead of an array.

    A fused kernel must see that a mask is causal and where documents end, and cannot infer that
    from an array. Document ids count from 1; 0 is padding. A query attends to the keys that every
    rule allows.

    Attributes:
      query_document_ids_BL: A query attends to keys of its own document only; None: of any.
        Requires the document ids of the keys.
      key_document_ids_BM: Keys with id 0 are padding and are masked; None: no padding.
      query_offset: The position of the first query among the keys.
      direction: "causal": a query attends to keys up to its own position only.
      window: A query attends to the last `window` keys up to and including its own position;
        None: to all keys.
    """

    query_document_ids_BL: jax.Array | None = None
    key_document_ids_BM: jax.Array | None = None
    query_offset: int | jax.Array = 0
    direction: Literal["bidirectional", "causal"] = struct.field(
        pytree_node=False, default="bidirectional"
    )
    window: int | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def bidirectional(cls, document_ids_BL: jax.Array | None = None) -> "Mask":
        """Return the mask of an encoder: every token attends to its own document."""
        return cls(document_ids_BL, document_ids_BL)

    @classmethod
    def causal(cls, document_ids_BL: jax.Array | None = None, window: int | None = None) -> "Mask":
        """Return the mask of a decoder: every token attends to its own document up to itself."""
        return cls(document_ids_BL, document_ids_BL, direction="causal", window=window)

    @classmethod
    def cached(cls, length: int | jax.Array, document_ids_BM: jax.Array | None = None) -> "Mask":
        """Return the causal mask of new tokens after the first `length` slots of a cache.

        The keys are those of the whole cache; all real ones belong to one document.
        """
        return cls(None, document_ids_BM, length, direction="causal")

    @classmethod
    def source(cls, document_ids_BM: jax.Array | None = None) -> "Mask":
        """Return the mask of cross-attention: every token attends to all real source tokens."""
        return cls(None, document_ids_BM)

    def dense(self, num_queries: int, num_keys: int) -> jax.Array | None:
        """Return the mask as a boolean array, for attention without a fused kernel.

        Returns:
          True where a query attends to a key; broadcasts to [B, H, L, M]. None if nothing is
          masked.
        """
        rules = []
        query_L1 = self.query_offset + jnp.arange(num_queries)[:, None]
        key_M = jnp.arange(num_keys)
        if self.direction == "causal":
            rules.append((key_M <= query_L1)[None, None])
        if self.window is not None:
            rules.append((query_L1 - key_M < self.window)[None, None])
        if self.key_document_ids_BM is not None:
            rules.append((self.key_document_ids_BM > 0)[:, None, None])
            if self.query_document_ids_BL is not None:
                query_BL1 = self.query_document_ids_BL[:, :, None]
                rules.append((query_BL1 == self.key_document_ids_BM[:, None])[:, None])
        return reduce(jnp.logical_and, rules) if rules else None


def positions(document_ids_BL: jax.Array) -> jax.Array:
    """Return the position of each token in its own document, from 0: int32 [B, L].

    Padding is not counted.
    """
    L = document_ids_BL.shape[1]
    return positions_among_keys(Mask.causal(document_ids_BL), L, L)


def learned_positions(
    tokens_BL: jax.Array, document_ids_BL: jax.Array | None, max_length: int
) -> jax.Array:
    """Return the position of each token, for a table of `max_length` rows: int32 [B, L] or [1, L].

    Raises:
      ValueError: If the row is longer than the table.
    """
    L = tokens_BL.shape[1]
    if max_length < L:
        raise ValueError(
            f"a row of {L} tokens is longer than the {max_length} positions of the model: truncate "
            "or split the text"
        )
    return jnp.arange(L)[None] if document_ids_BL is None else positions(document_ids_BL)


def positions_among_keys(mask: Mask, num_queries: int, num_keys: int) -> jax.Array:
    """Return the position of each query among the keys it attends to, from 0: int32 [B, L].

    The mask must be causal, so that the query itself is the last of them.
    """
    allowed = mask.dense(num_queries, num_keys)
    if allowed is None:
        raise ValueError(
            "positions need a causal mask, got one that masks nothing; use Mask.causal or "
            "Mask.cached"
        )
    return jnp.maximum(allowed[:, 0].sum(-1, dtype=jnp.int32) - 1, 0)
