"""Word prediction: its loss, gradients and updates against loops over pairs in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes
from train.objectives.row_objective import RowObjective
from train.objectives.word_vectors import (
    CBOW,
    HierarchicalSoftmax,
    NegativeSampling,
    SkipGram,
    SubwordCBOW,
    SubwordSkipGram,
    WordPrediction,
)
from train.optimization import rows
from train.row_step import make_row_evaluate, make_row_step
from train.step import State
from zoo.layers import huffman
from zoo.tokenizers import subwords

V, D, W, N, K, B = 11, 6, 2, 4, 3, 2
WORDS = ["</s>", *(f"word{'s' * n}" for n in range(V - 1))]
NGRAMS = subwords.word_rows(WORDS, np.arange(V), V, buckets=13, min_n=3, max_n=4)
KINDS = {
    "skip-gram": (SkipGram, "words"),
    "cbow": (CBOW, "words"),
    "fasttext skip-gram": (SubwordSkipGram, "rows"),
    "fasttext cbow": (SubwordCBOW, "rows"),
}
kinds = pytest.mark.parametrize("kind", KINDS)
outputs = pytest.mark.parametrize("output", ["negatives", "tree"])


def make_batch(sizes=(7, 5), lines=((0, 0, 0, 1, 1, 1, 1), (0, 0, 0, 0, 0))):
    """Return a batch of rows in two blocks of N words."""
    draw = np.random.default_rng(0)
    S = 2 * N
    batch = {
        "size": np.array(sizes, np.int32),
        "words": np.zeros((B, S + 2 * W), np.int32),
        "lines": np.full((B, S + 2 * W), -1, np.int32),
        "reach": draw.integers(1, W + 1, (B, S)).astype(np.int32),
        "negatives": draw.integers(1, V, (B, 2, K)).astype(np.int32),
        "subwords": np.zeros((B, 2, 200), np.int32),
        "owners": np.full((B, 2, 200), -1, np.int32),
    }
    for b in range(B):
        batch["words"][b, W : W + sizes[b]] = draw.integers(1, V, sizes[b])
        batch["lines"][b, W : W + sizes[b]] = lines[b]
        for t in range(2):
            owned = [
                (row, place)
                for place in range(N + 2 * W)
                for row in rows_of(batch["words"][b, t * N + place])
            ]
            batch["subwords"][b, t, : len(owned)] = [row for row, _ in owned]
            batch["owners"][b, t, : len(owned)] = [place for _, place in owned]
    return batch


def take_step(objective, params, batch, learning_rate=0.1, dtype="float32"):
    """Return the tables and the metrics after one step."""
    step = make_row_step(
        None, objective, rows.sgd(None), lambda step: learning_rate, seed=0, dtype=dtype
    )
    state, metrics = jax.jit(step)(State(jnp.int32(0), params, (), ()), batch)
    return jax.device_get((state.params, metrics))


def rows_of(word):
    return NGRAMS.rows[NGRAMS.first[word] : NGRAMS.first[word + 1]].tolist()


def make_objective(kind, output):
    cls, _ = KINDS[kind]
    tree = huffman.tree(np.arange(V) + 1)
    how = (
        NegativeSampling(5)
        if output == "negatives"
        else HierarchicalSoftmax(*map(jnp.asarray, tree))
    )
    return WordPrediction(cls(W), N, W, how)


def make_params(kind):
    draw = np.random.default_rng(1)
    _, table = KINDS[kind]
    size = V if table == "words" else V + 13
    wide = lambda *shape: draw.normal(0, 0.5, shape).astype(np.float32)
    return {table: wide(size, D), "outputs": wide(V, D)}


def pairs(batch, kind, block):
    """Yield the rows of the input, their divisor, and the target of every prediction of a block."""
    is_ngrams, is_cbow = "fasttext" in kind, "cbow" in kind
    inputs = rows_of if is_ngrams else lambda word: [word]
    for b in range(B):
        words, lines = batch["words"][b], batch["lines"][b]
        for i in range(W + block * N, W + (block + 1) * N):
            reach = batch["reach"][b, i - W]
            near = range(i - reach, i + reach + 1)
            around = [j for j in near if j != i and lines[j] == lines[i] and lines[i] >= 0]
            if is_cbow and around:
                yield b, [row for j in around for row in inputs(words[j])], words[i]
            elif not is_cbow:
                for j in around:
                    yield b, inputs(words[i]), words[j]


def expected(batch, kind, output, params, block):
    """Return the loss, the number of pairs and the gradients of a block, in float64."""
    _, table = KINDS[kind]
    tables = {name: x.astype(np.float64) for name, x in params.items()}
    gradient = {name: np.zeros_like(x) for name, x in tables.items()}
    nodes, signs = huffman.tree(np.arange(V) + 1)
    loss, count = 0.0, 0
    for b, input_rows, target in pairs(batch, kind, block):
        x = tables[table][input_rows].mean(0)
        if output == "tree":
            length = int(np.abs(signs[target]).sum())
            path = zip(nodes[target][:length], signs[target][:length], strict=True)
            terms = [(node, sign, 1.0) for node, sign in path]
        else:
            drawn = [w for w in batch["negatives"][b, block] if w != target]
            terms = [(target, -1.0, 1.0), *((w, 1.0, 5 / K) for w in drawn)]
        dx = np.zeros(D)
        for row, sign, weight in terms:
            y = tables["outputs"][row]
            loss += weight * np.logaddexp(0, sign * (x @ y))
            slope = weight * sign / (1 + np.exp(-sign * (x @ y)))
            dx += slope * y
            gradient["outputs"][row] += slope * x
        for row in input_rows:  # all get the whole gradient
            gradient[table][row] += dx
        count += 1
    return loss, count, gradient


@kinds
@outputs
def test_a_step_updates_block_after_block_as_loops_over_pairs_do(kind, output):
    batch, params, objective = make_batch(), make_params(kind), make_objective(kind, output)
    learning_rate = 0.1
    changed, metrics = take_step(objective, params, batch, learning_rate)
    tables, total, number = params, 0.0, 0
    for block in range(2):
        loss, count, gradient = expected(batch, kind, output, tables, block)
        tables = {name: x - learning_rate * gradient[name] for name, x in tables.items()}
        total, number = total + loss, number + count
    np.testing.assert_allclose(metrics["loss"], total / number, rtol=1e-5)
    for name, table in tables.items():
        np.testing.assert_allclose(changed[name], table, rtol=1e-4, atol=1e-6, err_msg=name)
        assert np.abs(table - params[name]).max() > 1e-3


@kinds
def test_shapes_agree_with_names(kind):
    objective, params = make_objective(kind, "negatives"), make_params(kind)
    batch = jax.tree.map(jnp.asarray, make_batch())
    with shapes.checked() as places:
        block = objective.block(batch, jnp.int32(0))
        gathered = {name: params[name][ids] for name, ids in objective.rows(block).items()}
        objective.loss(None, gathered, block, (), jax.random.key(0), train=True)
    assert any("word_vectors.py" in place for place in places)


def test_an_update_equals_that_of_the_original_program():
    # One word that predicts another: the updates of all outputs are added to the word at once.
    batch = {
        "size": np.array([2], np.int32),
        "words": np.array([[0, 3, 7, 0]], np.int32),
        "lines": np.array([[-1, 0, 0, -1]], np.int32),
        "reach": np.array([[1, 0]], np.int32),  # the second word has no window
        "negatives": np.array([[[2, 5, 5, 9, 4]]], np.int32),
    }
    objective = WordPrediction(SkipGram(1), 2, 1, NegativeSampling(5))
    params = make_params("skip-gram")
    changed, _ = take_step(objective, params, batch, 0.025)
    syn0, syn1 = (params[name].astype(np.float64) for name in ("words", "outputs"))
    error = np.zeros(D)
    old = syn1.copy()
    for word, label in ((7, 1), (2, 0), (5, 0), (5, 0), (9, 0), (4, 0)):
        slope = (label - 1 / (1 + np.exp(-syn0[3] @ old[word]))) * 0.025
        error += slope * old[word]
        syn1[word] += slope * syn0[3]
    syn0[3] += error
    np.testing.assert_allclose(changed["words"], syn0, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(changed["outputs"], syn1, rtol=1e-5, atol=1e-7)


def test_rows_that_are_not_read_do_not_change_by_a_bit():
    params, objective = make_params("skip-gram"), make_objective("skip-gram", "negatives")
    batch = make_batch()
    changed, _ = take_step(objective, params, batch)
    read = set(batch["words"][batch["lines"] >= 0].tolist())
    for word in range(V):
        is_equal = np.array_equal(changed["words"][word], params["words"][word])
        assert is_equal == (word not in read)


def test_an_evaluation_changes_nothing_and_equals_the_loss_of_the_blocks():
    params, objective, batch = (
        make_params("cbow"),
        make_objective("cbow", "negatives"),
        make_batch(),
    )
    evaluate = jax.jit(make_row_evaluate(None, objective, dtype="float32"))
    (terms, weights), carry = evaluate(params, batch, (), 0)
    losses = [expected(batch, "cbow", "negatives", params, block) for block in range(2)]
    np.testing.assert_allclose(terms["pair"].loss, sum(loss for loss, _, _ in losses), rtol=1e-5)
    assert weights["pair"] == sum(count for _, count, _ in losses)
    assert carry == ()


def test_bfloat16_is_the_type_of_products_only():
    params, objective = make_params("skip-gram"), make_objective("skip-gram", "negatives")
    results = {
        dtype: take_step(objective, params, make_batch(), dtype=dtype)[0]
        for dtype in ("float32", "bfloat16")
    }
    for name in params:
        assert results["bfloat16"][name].dtype == jnp.float32
        np.testing.assert_allclose(*(result[name] for result in results.values()), atol=2e-2)


def test_accumulation_is_refused():
    objective = make_objective("skip-gram", "negatives")
    assert isinstance(objective, RowObjective)
    with pytest.raises(ValueError, match="leave out --accumulate"):
        make_row_step(
            None, objective, rows.sgd(None), lambda s: 1, seed=0, dtype="float32", accumulate=2
        )


def test_a_model_without_inputs_has_the_unigram_loss():
    k = 5
    loss = make_objective("skip-gram", "negatives").unigram_loss(6.0, 100)
    p = 1 / (1 + k)
    np.testing.assert_allclose(loss, -np.log(p) - k * np.log(1 - p))
    assert make_objective("skip-gram", "tree").unigram_loss(6.0, 100) == 6.0
