"""Teacher forcing against a loop over pairs and tokens, in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.step import corrupt
from zoo.models import seq2seq

START, END = 0, 1
OBJECTIVE = SequenceToSequence(START, END)
MODEL = seq2seq.Seq2SeqLM(
    seq2seq.Config(
        vocab_size=tiny.V, max_length=1 << 30, num_layers=1, width=16, dropout=0.0, embed_width=12
    )
)
PAIRS = [([5, 9, 7], [8, 4]), ([6], [12, 13, 14, 15]), ([21, 22, 23, 24, 25], [30])]
L = 8


def batch(pairs, length=L, rows=0):
    rows = max(rows, len(pairs))
    arrays = {"source": np.zeros((rows, length), np.int32), "target": np.zeros((rows, length), int)}
    lengths = {f"{side}_length": np.zeros(rows, np.int32) for side in arrays}
    for row, sides in enumerate(pairs):
        for side, ids in zip(("source", "target"), sides, strict=True):
            arrays[side][row, : len(ids)] = ids
            lengths[f"{side}_length"][row] = len(ids)
    return arrays | lengths


def loss(objective, pairs, train=False, seed=0, **shape):
    example = corrupt(objective, jax.random.key(0), batch(pairs, **shape))
    params = tiny.wide(MODEL)
    terms, _ = objective.loss(MODEL, params, example, (), jax.random.key(seed), train=train)
    return float(terms["token"].loss), float(example["weights"]["token"].sum())


def expected(pairs, smoothing=0.0):
    total = 0.0
    for source, target in pairs:
        variables, inputs = {"params": tiny.wide(MODEL)}, jnp.array([[START, *target]])
        logits = MODEL.apply(variables, jnp.array([[*source, END]]), inputs)
        log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)[0]
        for position, token in enumerate([*target, END]):
            token_loss = -(1 - smoothing) * log_p[position, token]
            total += token_loss - smoothing * log_p[position].mean()
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_every_pair_alone(smoothing):
    objective = replace(OBJECTIVE, smoothing=smoothing)
    total, count = loss(objective, PAIRS, train=True)
    assert total == pytest.approx(expected(PAIRS, smoothing), rel=1e-5)
    assert count == sum(len(target) + 1 for _, target in PAIRS)


def test_smoothing_applies_only_in_training():
    smooth = replace(OBJECTIVE, smoothing=0.3)
    assert loss(smooth, PAIRS)[0] == loss(OBJECTIVE, PAIRS)[0]


def test_padding_tokens_and_padding_rows_change_nothing():
    assert loss(OBJECTIVE, PAIRS, length=13, rows=6) == pytest.approx(loss(OBJECTIVE, PAIRS), 1e-5)


def test_decoder_inputs_are_the_targets_shifted_by_one():
    example = corrupt(OBJECTIVE, jax.random.key(0), batch(PAIRS))
    for row, (source, target) in enumerate(PAIRS):
        n = len(target) + 1
        assert example["inputs"][row, :n].tolist() == [START, *target]
        assert example["targets"][row, :n].tolist() == [*target, END]
        assert example["tokens"][row, : len(source) + 1].tolist() == [*source, END]
        assert example["documents"][row].tolist() == [1] * (len(source) + 1) + [0] * (
            L - len(source) - 1
        )


def test_scheduled_sampling_replaces_a_fraction_of_the_inputs():
    example = corrupt(OBJECTIVE, jax.random.key(0), batch(PAIRS * 40))
    unprojected = MODEL.apply(
        {"params": tiny.wide(MODEL)}, example["tokens"], example["inputs"], method="unprojected"
    )
    sampled_inputs = replace(OBJECTIVE, sampled=0.25).sample_inputs(
        jax.random.key(1), unprojected, example["inputs"]
    )
    changed = np.asarray(sampled_inputs != example["inputs"])
    assert not changed[:, 0].any()
    assert 0.15 < changed[:, 1:].mean() < 0.3
    everywhere = replace(OBJECTIVE, sampled=1.0)
    assert loss(everywhere, PAIRS, train=True) != loss(OBJECTIVE, PAIRS, train=True)
    assert loss(everywhere, PAIRS) == loss(OBJECTIVE, PAIRS)


def test_sampled_inputs_come_from_the_logits_of_the_position_before():
    example = corrupt(OBJECTIVE, jax.random.key(0), batch(PAIRS))
    unprojected = MODEL.apply(
        {"params": tiny.wide(MODEL)}, example["tokens"], example["inputs"], method="unprojected"
    )
    unprojected = unprojected._replace(table_VD=1e4 * unprojected.table_VD, bias_V=0.0)
    sampled_inputs = replace(OBJECTIVE, sampled=1.0).sample_inputs(
        jax.random.key(1), unprojected, example["inputs"]
    )
    best = np.asarray(unprojected.logits().argmax(-1))
    assert (np.asarray(sampled_inputs)[:, 1:] == best[:, :-1]).all()
