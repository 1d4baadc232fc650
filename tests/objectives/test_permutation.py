"""Permutation language modelling: spans, masks, targets that do not leak, and memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.objectives import permutation
from train.objectives.permutation import Permutation
from zoo.layers.transformer_xl import Memory, lengthen
from zoo.models import xlnet

SEP, CLS = 4, 3
OBJECTIVE = Permutation(SEP, CLS, num_predictions=11, reuse=31, memory=40, perm_size=8)
MODEL = xlnet.XLNetLM(
    xlnet.Config(
        vocab_size=50,
        max_length=64,
        num_layers=2,
        num_heads=2,
        width=16,
        mlp_width=24,
        head_width=8,
        dropout=0.0,
    )
)
LENGTH = 64


def wide_params():
    """Return parameters large enough that every visible token changes the output."""
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.3, x.shape), jnp.float32), shapes)


PARAMS = wide_params()


def example(seed=0, length=LENGTH, padding=0):
    """Return a row like those of the batches: `reuse` tokens, A <sep> B <sep> <cls>, padding."""
    random = np.random.default_rng(seed)
    tokens = random.integers(10, 50, length).astype(np.int32)
    words = random.random(length) < 0.6
    mask = np.arange(length) < length - padding
    end = length - padding
    for position, special in ((end - 12, SEP), (end - 2, SEP), (end - 1, CLS)):
        tokens[position], words[position] = special, False
    tokens[~mask], words[~mask] = 0, False
    segments = np.where(np.arange(length) <= end - 12, 0, 1).astype(np.int32)
    segments[end - 1] = 2
    return {
        "tokens": tokens,
        "segments": segments,
        "mask": mask,
        "words": words,
        "fresh": np.bool_(seed % 2 == 0),
    }


corrupt = jax.jit(jax.vmap(OBJECTIVE.corrupt))


def corrupt_rows(examples, seed=0):
    """Return the examples as a batch, corrupted as in training."""
    keys = jax.random.split(jax.random.key(seed), len(examples))
    stacked = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    return corrupt(keys, stacked)


def slow_unseen(position, target, special):
    """Apply the rule of the mask, token by token."""
    n = len(position)
    blocked = np.zeros((n, n), bool)
    for i in range(n):
        for j in range(n):
            context = not target[j] and not special[j]
            if context:
                continue
            query_is_context = not target[i] and not special[i]
            itself = i == j and bool(special[i])
            blocked[i, j] = query_is_context or not (position[j] < position[i] or itself)
    return blocked


def slow_spans(objective, key, words, allowed, goal):
    """Return spans from left to right, from the same random numbers."""
    size, start, turn, picked = len(words), 0, 0, [False] * len(words)
    while start < size and sum(picked) < goal:
        length_key, left_key = jax.random.split(jax.random.fold_in(key, turn))
        probabilities = np.float32([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
        n = 1 + int(jax.random.categorical(length_key, np.log(probabilities)))
        n = min(n, goal - sum(picked))
        context = n * objective.mask_alpha // objective.mask_beta
        left = int(jax.random.randint(left_key, (), 0, context))
        begin = start + left
        while begin < size and not words[begin]:
            begin += 1
        if begin + n >= size:
            break
        for position in range(begin, begin + n):
            if allowed[position]:
                picked[position] = True
        start, turn = begin + n + context - left, turn + 1
    return np.array(picked)


def test_the_mask_follows_its_rule():
    random = np.random.default_rng(0)
    for _ in range(20):
        position = random.permutation(17)
        target = random.random(17) < 0.4
        special = (random.random(17) < 0.2) & ~target
        ours = permutation.unseen(jnp.asarray(position), jnp.asarray(target), jnp.asarray(special))
        np.testing.assert_array_equal(ours, slow_unseen(position, target, special))


def test_spans_are_those_of_a_slow_loop():
    spans = jax.jit(OBJECTIVE.spans, static_argnums=3)
    count = 0
    for seed in range(12):
        row = example(seed)
        allowed = ~np.isin(row["tokens"], (SEP, CLS))
        key = jax.random.key(seed)
        ours = spans(key, row["words"], allowed, 9)
        expected = slow_spans(OBJECTIVE, key, row["words"], allowed, 9)
        np.testing.assert_array_equal(ours, expected)
        count += expected.sum()
    assert count > 60


def test_lengths_of_spans_have_probabilities_proportional_to_one_over_n():
    everywhere = jnp.ones(100, bool)
    keys = jax.random.split(jax.random.key(1), 4000)
    spans = jax.jit(jax.vmap(lambda key: OBJECTIVE.spans(key, everywhere, everywhere, 20)))
    picked = np.asarray(spans(keys))
    begin = picked.argmax(1)
    lengths = [int(np.argmin(row[b:])) for row, b in zip(picked, begin, strict=True)]
    frequency = np.bincount(lengths, minlength=6)[1:] / len(lengths)
    expected = 1 / np.arange(1, 6)
    np.testing.assert_allclose(frequency, expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize(("length", "perm_size"), [(31, 8), (24, 8), (7, 16)])
def test_the_permutation_shuffles_every_block_alike(length, perm_size):
    position = np.asarray(permutation.order(jax.random.key(3), length, perm_size))
    original_position = np.arange(length)
    np.testing.assert_array_equal(position // perm_size, original_position // perm_size)
    assert len(set(position)) == length
    first = position[:perm_size]
    for block in range(0, length, perm_size):
        part = position[block : block + perm_size] - block
        np.testing.assert_array_equal(part, first[: len(part)])
    assert (first != np.sort(first)).any()


def test_the_requested_number_of_words_is_predicted_and_no_special_tokens():
    for seed in range(8):
        originals = [example(seed, padding=seed), example(seed + 1)]
        batch, row, original = corrupt_rows(originals, seed), 0, originals[0]
        predictions = np.asarray(batch["predictions"][row])
        np.testing.assert_array_equal(batch["weights"]["token"][row], np.ones(11))
        assert len(set(predictions)) == 11
        assert (predictions < OBJECTIVE.reuse).sum() == 6
        targets = original["tokens"][predictions]
        np.testing.assert_array_equal(batch["targets"][row], targets)
        assert not np.isin(targets, (SEP, CLS, 0)).any()
        np.testing.assert_array_equal(batch["documents"][row], original["mask"])


def test_spans_begin_where_words_begin():
    row = example(3)
    allowed = ~np.isin(row["tokens"], (SEP, CLS))
    spans = jax.jit(OBJECTIVE.spans, static_argnums=3)
    for seed in range(20):
        picked = np.asarray(spans(jax.random.key(seed), row["words"], allowed, 11))
        begins = picked & ~np.roll(picked, 1)
        begins[0] = picked[0]
        after_special = np.roll(~allowed, 1)  # a span that contains a special token
        assert (row["words"] | after_special)[begins].all()
        assert picked.sum() <= 11


def test_too_few_words_have_fewer_weights_and_padding_rows_none():
    short = example(2, padding=27)  # four words remain in the second part
    padding_row = {name: np.zeros_like(value) for name, value in example(0).items()}
    batch = corrupt_rows([short, padding_row])
    words = (~np.isin(short["tokens"][OBJECTIVE.reuse :], (SEP, CLS, 0))).sum()
    assert words == 4
    np.testing.assert_array_equal(batch["weights"]["token"][0], np.arange(11) < 6 + words)
    np.testing.assert_array_equal(batch["weights"]["token"][1], np.zeros(11))
    carry = OBJECTIVE.initial_carry(MODEL, 2)
    terms, after = loss(batch, carry)
    assert np.isfinite(terms["token"].loss)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_a_row_without_two_parts_is_refused():
    for reuse in (0, LENGTH):
        objective = Permutation(SEP, CLS, reuse=reuse)
        with pytest.raises(ValueError, match="cannot reuse"):
            objective.corrupt(jax.random.key(0), example())


@jax.jit
def query_logits(params, batch, memory=None):
    unprojected, memory_inputs = MODEL.apply(
        {"params": params},
        *(batch[name] for name in ("tokens", "segments", "documents", "blocked", "predictions")),
        memory,
        method="unprojected",
    )
    return unprojected.logits(), memory_inputs


@jax.jit
def evaluate(params, batch, carry):
    return OBJECTIVE.loss(MODEL, params, batch, carry, jax.random.key(0), train=False)


loss = partial(evaluate, PARAMS)


def test_a_prediction_sees_the_context_and_the_targets_before_it_and_nothing_else():
    """Change every token in turn, one per row, and run the network."""
    batch = jax.tree.map(lambda x: x[0], corrupt_rows([example(5), example(6)]))
    changed_rows = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], LENGTH + 1, 0), batch)
    positions = np.arange(LENGTH)
    changed_rows["tokens"][positions, positions] = (
        changed_rows["tokens"][positions, positions] + 1
    ) % 50
    logits, _ = query_logits(PARAMS, changed_rows)
    logits = np.asarray(logits)
    changes = np.abs(logits[:LENGTH] - logits[LENGTH]).max(-1) > 0  # [changed token, prediction]

    predictions, reuse = np.asarray(batch["predictions"]), OBJECTIVE.reuse
    special = np.isin(batch["tokens"], (SEP, CLS))
    context = ~special & ~np.isin(positions, predictions)
    first = predictions < reuse
    # The first part sees its own context and nothing of the second, which sees both.
    assert changes[:reuse][context[:reuse]].all()
    assert changes[reuse:][context[reuse:]][:, ~first].all()
    assert not changes[reuse:][:, first].any()
    assert changes[:reuse][:, ~first].all()
    # The targets of a part are ordered: one that sees k others is visible to the rest.
    for part in (predictions[first], predictions[~first]):
        visible = changes[part][:, np.isin(predictions, part)].T
        assert not visible.diagonal().any()
        by_count = visible[np.ix_(np.argsort(visible.sum(1)), np.argsort(visible.sum(1)))]
        np.testing.assert_array_equal(by_count, np.tri(len(part), k=-1, dtype=bool))


def test_memory_equals_one_long_row():
    random = np.random.default_rng(0)
    tokens = random.integers(10, 50, (2, 30))
    segments = np.concatenate([np.zeros((2, 15), int), np.sort(random.integers(0, 2, (2, 15)))], 1)
    blocked = random.random((2, 30, 30)) < 0.4
    blocked[:, :15, 15:] = True  # the first part does not see the second,
    blocked[:, 15:, :15] = False  # which sees all of it
    predictions = np.stack([random.permutation(15)[:5] for _ in range(2)])
    documents = np.ones((2, 30), int)
    names = ("tokens", "segments", "documents")
    row = {"tokens": tokens, "segments": segments, "documents": documents}
    part_of_row = lambda part: (
        {name: row[name][:, part] for name in names}
        | {
            "blocked": blocked[:, part, part],
            "predictions": predictions,
        }
    )
    expected, _ = query_logits(PARAMS, row | {"blocked": blocked, "predictions": predictions + 15})
    _, memory_inputs = query_logits(PARAMS, part_of_row(slice(0, 15)))
    empty = Memory((jnp.zeros((2, 20, 16)),) * 2, jnp.zeros((2, 20), jnp.int32))
    memory = lengthen(empty, memory_inputs, reuse=15, length=20)  # 5 positions stay empty
    np.testing.assert_array_equal(memory.document_ids_BM.sum(1), [15, 15])
    logits, _ = query_logits(PARAMS, part_of_row(slice(15, 30)), memory)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
    without_memory, _ = query_logits(PARAMS, part_of_row(slice(15, 30)))
    assert np.abs(logits - without_memory).max() > 0.01


def test_fresh_rows_reset_their_memory_and_others_keep_it():
    batch = corrupt_rows([example(seed) for seed in range(2)])
    carry = OBJECTIVE.initial_carry(MODEL, 2)
    _, carry = loss(batch, carry)
    _, carry = loss(batch | {"fresh": jnp.zeros(2, bool)}, carry)
    np.testing.assert_array_equal(carry.document_ids_BM.sum(1), [40, 40])
    empty = OBJECTIVE.initial_carry(MODEL, 2)
    batch = corrupt_rows([example(seed) for seed in (6, 7)], seed=1)
    for row, is_fresh in ((0, True), (1, False)):
        weights = jnp.zeros((2, 11)).at[row].set(1)
        batch["weights"]["token"] = weights
        with_carry, with_empty_carry = (
            loss(batch, carry)[0]["token"],
            loss(batch, empty)[0]["token"],
        )
        assert (with_carry.loss == with_empty_carry.loss) == is_fresh
    _, after = loss(batch, carry)
    np.testing.assert_array_equal(after.document_ids_BM.sum(1), [31, 40])


def test_no_gradient_flows_into_the_memory():
    documents = jnp.ones((1, 4), jnp.int32)

    def sum_of_memory(x):
        memory = Memory((x,), documents)
        return lengthen(memory, memory, reuse=3, length=5).inputs[0].sum()

    assert sum_of_memory(jnp.ones((1, 4, 2))) == 10
    assert (jax.grad(sum_of_memory)(jnp.ones((1, 4, 2))) == 0).all()


def test_every_parameter_is_trained_and_dropout_is_active():
    model = xlnet.XLNetLM(
        xlnet.Config(
            vocab_size=50,
            max_length=64,
            num_layers=2,
            num_heads=2,
            width=16,
            mlp_width=24,
            head_width=8,
            dropout=0.3,
        )
    )
    batch, carry = (
        corrupt_rows([example(seed) for seed in range(2)]),
        OBJECTIVE.initial_carry(MODEL, 2),
    )

    @jax.jit
    def value(params, key):
        term = lambda p: OBJECTIVE.loss(model, p, batch, carry, key, train=True)[0]["token"].loss
        return jax.value_and_grad(term)(params)

    loss_of_key, gradient = value(PARAMS, jax.random.key(1))
    assert loss_of_key != value(PARAMS, jax.random.key(2))[0]
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))
