"""N-gram language models with back-off (Kneser and Ney 1995; Chen and Goodman 1999).

Kneser and Ney, "Improved backing-off for m-gram language modeling";
Chen and Goodman, "An empirical study of smoothing techniques for language modeling";
Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation", which is KenLM:
https://aclanthology.org/P13-2121
The next token depends on the n - 1 tokens before it. Every estimator of train/counting, smoothed by
interpolation or by back-off, is stored as the same two numbers per n-gram, p and b:
p(w | h) = p(hw) if hw is in the table, else b(h) p(w | h'), where h' is h without its first token.

A model of counts has no gradient, no layers and no initial weights, so it is not a Flax module: it
is a frozen config, and pure functions of its tables. `init` and `apply` have the form of Flax's, so
that whatever calls a language model can call this one.

The tables are a trie in sorted arrays, which a model folder maps into memory. An n-gram is a row of
the table of its order, and the row of its first n - 1 tokens and its last token are packed into one
integer, by which the rows are sorted. The n-grams that share a context are therefore consecutive
rows, sorted by their last token, and one is found by binary search.

    order_1    p, b: one row for each token of the vocabulary
    order_n    first: where the rows of each row of the order below begin, and the end
               last: the last token of each row; p; b, except in the highest order

The token `end` begins and ends every document. As a context it is KenLM's <s>, and as a prediction
KenLM's </s>, so every context has a distribution over the whole vocabulary, which sums to one.

B batch  L length  P predictions  V vocabulary  C children of a context
O orders of contexts: 0 to n - 1 tokens
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

CHILDREN = 256  # rows of a context that are read at a time
ABSENT = -1  # in place of the row of an n-gram that is not in the table

Tables = Mapping[str, Mapping[str, jax.Array]]  # "order_2" -> "first", "last", "p", "b" -> array


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an n-gram model, with the sizes of its tables.

    `ngrams` has the number of n-grams of each order; the first is the size of the vocabulary.
    `max_length` is required by generation; the model itself works at any length.
    `units` and `estimator` record how the model was made: what a token is, and how it was smoothed.
    """

    vocab_size: int = 2
    max_length: int = 1 << 30
    order: int = 5
    ngrams: tuple[int, ...] = (2, 0, 0, 0, 0)
    end: int = 1
    units: str = "word"
    estimator: str = "modified-kneser-ney"


SIZES: dict[str, Config] = {}  # none is published: a table is as large as its text makes it


@dataclass(frozen=True)
class NGram:
    """The model: a config, and functions of tables, which `apply` calls by name."""

    config: Config

    def init(self, key: chex.PRNGKey, tokens_BL: jax.Array) -> dict[str, Any]:
        """Return tables of zeros, to show their shapes; a real one is counted or loaded."""
        c, tables = self.config, {}
        for n, rows in enumerate(c.ngrams, 1):
            integers = {"first": (c.ngrams[n - 2] + 1,), "last": (rows,)} if n > 1 else {}
            numbers = {"p": (rows,)} if n == c.order else {"p": (rows,), "b": (rows,)}
            tables[f"order_{n}"] = {
                **{name: jnp.zeros(shape, jnp.int32) for name, shape in integers.items()},
                **{name: jnp.zeros(shape, jnp.float32) for name, shape in numbers.items()},
            }
        return {"params": tables}

    def apply(
        self, variables: Mapping[str, Any], *inputs: Any, method: str = "__call__", **options: Any
    ) -> Any:
        """Call a method with the tables, `variables["params"]`, as its first argument."""
        return getattr(self, method)(variables["params"], *inputs, **options)

    def __call__(
        self, tables: Tables, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None
    ) -> jax.Array:
        """Return the next-token logits, which are log probabilities: logits_BLV."""
        rows_BLO = self.contexts(tables, tokens_BL, document_ids_BL)
        B, L, O = rows_BLO.shape
        p_PV = self.distribution(tables, rows_BLO.reshape(B * L, O))
        return jnp.log(p_PV).reshape(B, L, -1)

    def start(
        self, tables: Tables, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, jax.Array]:
        """Process prompts: next-token logits_BV, and the rows of the context in every order."""
        # Earlier tokens than these are in no context.
        reach = max(self.config.order - 1, 1)
        tokens_BL, document_ids_BL = tokens_BL[:, -reach:], document_ids_BL[:, -reach:]
        rows_BO = self.contexts(tables, tokens_BL, document_ids_BL)[:, -1]
        return jnp.log(self.distribution(tables, rows_BO)), rows_BO

    def step(
        self, tables: Tables, token_B: jax.Array, rows_BO: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Process one more token: next-token logits_BV, and the rows of the new context."""
        longer = [self.find(tables, n, rows_BO[:, n - 1], token_B) for n in self._contexts()]
        rows_BO = jnp.stack([jnp.zeros_like(token_B), *longer], 1)
        return jnp.log(self.distribution(tables, rows_BO)), rows_BO

    def score(
        self, tables: Tables, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Return the probability of each token after those before it, and what was found of it.

        Returns:
          p_BL, where that of the first token of a document has no context; and found_BL, the order
          of the longest n-gram in the table that ends with the token.
        """
        rows_BLO = self.contexts(tables, tokens_BL, document_ids_BL)
        p_BL, found_BL = tables["order_1"]["p"][tokens_BL], jnp.ones_like(tokens_BL)
        before_BLO = jnp.pad(rows_BLO, ((0, 0), (1, 0), (0, 0)), constant_values=ABSENT)[:, :-1]
        same_BL = _continues(tokens_BL, document_ids_BL)
        for n in range(2, self.config.order + 1):
            context_BL = jnp.where(same_BL, before_BLO[..., n - 1], ABSENT)
            row_BL = self.find(tables, n, context_BL, tokens_BL)
            backed_off_BL = p_BL * self._back_off(tables, n - 1, context_BL)
            p_BL = jnp.where(row_BL >= 0, _at(tables[f"order_{n}"]["p"], row_BL), backed_off_BL)
            found_BL = jnp.where(row_BL >= 0, n, found_BL)
        return p_BL, found_BL

    def contexts(
        self, tables: Tables, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None
    ) -> jax.Array:
        """Return the rows of the last 0, 1, ... n - 1 tokens at each position: rows_BLO.

        A row is ABSENT if those tokens are not in the table, or not all of one document.
        """
        same_BL = _continues(tokens_BL, document_ids_BL)
        row_BL, rows = jnp.zeros_like(tokens_BL), []
        rows.append(row_BL)
        for n in self._contexts():
            if n == 1:
                real_BL = True if document_ids_BL is None else document_ids_BL > 0
                row_BL = jnp.where(real_BL, tokens_BL, ABSENT)
            else:
                before_BL = jnp.pad(row_BL, ((0, 0), (1, 0)), constant_values=ABSENT)[:, :-1]
                row_BL = self.find(tables, n, jnp.where(same_BL, before_BL, ABSENT), tokens_BL)
            rows.append(row_BL)
        return jnp.stack(rows, -1)

    def find(self, tables: Tables, n: int, context: jax.Array, token: jax.Array) -> jax.Array:
        """Return the row of an n-gram of order n, or ABSENT, given that of its context.

        Args:
          tables: The tables.
          n: The order.
          context: Rows of the order below, of any shape; ABSENT gives ABSENT.
          token: The last tokens, of the same shape.
        """
        if n == 1:
            return token
        table = tables[f"order_{n}"]
        if not len(table["last"]):
            return jnp.full_like(token, ABSENT)
        low = _at(table["first"], context)
        end = jnp.where(context >= 0, _at(table["first"], context + 1), low)

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) // 2
            is_below = (low < high) & (_at(table["last"], middle) < token)
            return jnp.where(is_below, middle + 1, low), jnp.where(is_below, high, middle)

        steps = math.ceil(math.log2(self.config.vocab_size)) + 1
        low, _ = jax.lax.fori_loop(0, steps, halve, (low, end))
        return jnp.where((low < end) & (_at(table["last"], low) == token), low, ABSENT)

    def distribution(self, tables: Tables, rows_BO: jax.Array) -> jax.Array:
        """Return the probability of every next token, p_BV, given the rows of the contexts."""
        p_V = tables["order_1"]["p"]
        p_BV = jnp.broadcast_to(p_V, (len(rows_BO), len(p_V)))
        for n in range(2, self.config.order + 1):
            row_B = rows_BO[:, n - 1]
            p_BV = p_BV * self._back_off(tables, n - 1, row_B)[:, None]
            p_BV = _overwrite(tables[f"order_{n}"], row_B, p_BV)
        return p_BV

    def _contexts(self) -> range:
        """Return the orders of contexts, 1 to n - 1."""
        return range(1, self.config.order)

    def _back_off(self, tables: Tables, n: int, row: jax.Array) -> jax.Array:
        return jnp.where(row >= 0, _at(tables[f"order_{n}"]["b"], row), 1.0)


def _at(array: jax.Array, index: jax.Array) -> jax.Array:
    """Return elements of an array; those of indices out of range are arbitrary."""
    if not len(array):
        return jnp.zeros(index.shape, array.dtype)
    return jnp.take(array, index, mode="clip")


def _continues(tokens_BL: jax.Array, document_ids_BL: jax.Array | None) -> jax.Array:
    """Return whether a token follows one of its own document: same_BL."""
    if document_ids_BL is None:
        return jnp.broadcast_to(jnp.arange(tokens_BL.shape[1]) > 0, tokens_BL.shape)
    before_BL = jnp.pad(document_ids_BL, ((0, 0), (1, 0)))[:, :-1]
    return (document_ids_BL == before_BL) & (document_ids_BL > 0)


def _overwrite(table: Mapping[str, jax.Array], row_B: jax.Array, p_BV: jax.Array) -> jax.Array:
    """Return p_BV with the probabilities that a table has for the contexts in some rows.

    Contexts have from one to V children, so they are read CHILDREN at a time until all are done.
    """
    if not len(table["last"]):
        return p_BV
    V = p_BV.shape[1]
    first_B = _at(table["first"], row_B)
    count_B = jnp.where(row_B >= 0, _at(table["first"], row_B + 1) - first_B, 0)
    batch_B1 = jnp.arange(len(row_B))[:, None]

    def read(state):
        done, p_BV = state
        offset_C = done + jnp.arange(CHILDREN)
        child_BC = first_B[:, None] + offset_C
        last_BC = jnp.where(offset_C < count_B[:, None], _at(table["last"], child_BC), V)
        p_BV = p_BV.at[batch_B1, last_BC].set(_at(table["p"], child_BC), mode="drop")
        return done + CHILDREN, p_BV

    unfinished = lambda state: state[0] < count_B.max()
    return jax.lax.while_loop(unfinished, read, (jnp.int32(0), p_BV))[1]


def table_bytes(tables: Tables) -> list[int]:
    """Return the size of the table of each order in bytes."""
    return [
        sum(int(np.prod(array.shape)) * array.dtype.itemsize for array in table.values())
        for _, table in sorted(tables.items(), key=lambda item: int(item[0].rpartition("_")[2]))
    ]


Model = NGram
MODELS = (NGram,)
TASKS: dict[str, type] = {}
GROUPS = ("",)
AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
