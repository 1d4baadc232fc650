"""Texts that are packed into rows are fine-tuned on as if each had a row of its own."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.tiny_task import SETTINGS, tune
from train.finetuning.batches import stack
from train.finetuning.objective import TaskObjective
from train.finetuning.packed_batches import check, packed_batches
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import IGNORED, LabelledRow
from train.step import corrupt, random_params
from zoo.inference.batching import Row
from zoo.params import flatten

FORWARD, BACKWARD = 1e-5, 1e-4
TRANSFORMERS = (
    *("bert", "roberta", "distilbert", "albert", "electra", "xlnet"),
    *("gpt", "gpt2", "gpt3", "gpt_neo"),
)
LENGTH = 24
PACKED = Settings(pack=6, length=LENGTH, batch=40)
DRAWS = {
    "classification": lambda draw, size: int(draw.integers(2)),
    "regression": lambda draw, size: float(draw.normal()),
    "multi-label": lambda draw, size: tuple(draw.integers(0, 2, 2).tolist()),
    "tagging": lambda draw, size: [IGNORED, *draw.integers(0, 2, size - 1).tolist()],
}


def texts(task: str, has_segments: bool = True, count: int = 40) -> list[LabelledRow]:
    """Return rows of 2 to 12 tokens, the second half of which are another segment."""
    draw = np.random.default_rng(0)
    rows = []
    for size in draw.integers(2, 13, count).tolist():
        tokens = draw.integers(0, tiny.V, size).tolist()
        segments = [int(has_segments and place >= size // 2) for place in range(size)]
        rows.append(LabelledRow(Row(tokens, segments), DRAWS[task](draw, size)))
    return rows


def loss_and_gradient(model, task, params, batch):
    objective = TaskObjective(task, 0.0, {})
    batch = corrupt(objective, jax.random.key(0), batch)

    def loss(params):
        terms, _ = objective.loss(model, params, batch, (), jax.random.key(0), train=False)
        return terms["task"].loss

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    return value, gradient, sum(w.sum() for w in batch["weights"].values())


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *((name, "classification") for name in TRANSFORMERS),
        *(("bert", task) for task in ("regression", "multi-label", "tagging")),
        ("gpt2", "tagging"),
    ],
)
def test_the_loss_and_its_gradient_are_those_of_texts_in_rows_of_their_own(name, task):
    architecture, config = tiny.TABLE[name].architecture, tiny.TABLE[name].config
    labels = ("score",) if task == "regression" else ("no", "yes")
    model = architecture.TASKS[TASKS[task].head](replace(config, labels=labels))
    params = flatten(random_params(model, 0))
    rows = texts(task, "num_segments" in vars(config))
    separate = {key: x[:-1] for key, x in stack(rows, LENGTH).items()}
    packed = packed_batches(rows, LENGTH, PACKED, (0,))
    assert packed.order.steps == 1
    assert len(packed(0)["tokens"]) < 0.5 * len(rows)
    expected, gradient, weights = loss_and_gradient(model, TASKS[task], params, separate)
    loss, packed_gradient, packed_weights = loss_and_gradient(model, TASKS[task], params, packed(0))
    assert packed_weights == weights
    np.testing.assert_allclose(loss, expected, rtol=FORWARD)
    for path, x in gradient.items():
        np.testing.assert_allclose(packed_gradient[path], x, atol=BACKWARD, err_msg=path)
    assert max(jnp.abs(x).max() for x in gradient.values()) > 100 * BACKWARD


def rows_of_epoch(batches, run, epoch):
    for step in range(epoch * batches.order.steps, (epoch + 1) * batches.order.steps):
        batch = {name: x[run] for name, x in batches(step).items()}
        for place in range(len(batch["tokens"])):
            yield {name: x[place] for name, x in batch.items()}


@pytest.mark.parametrize("task", DRAWS)
def test_every_run_sees_every_text_once_per_epoch_in_its_own_order(task):
    rows = texts(task, count=200)
    batches = packed_batches(rows, LENGTH, PACKED, (3, 4))
    of_text = {tuple(labelled.row.tokens): labelled for labelled in rows}
    orders = []
    for run, epoch in itertools.product(range(2), range(2)):
        seen = []
        for row in rows_of_epoch(batches, run, epoch):
            for document in range(1, row["documents"].max() + 1):
                is_in = row["documents"] == document
                labelled = of_text[tuple(row["tokens"][is_in].tolist())]
                assert row["segments"][is_in].tolist() == labelled.row.segments
                target = row["targets"][is_in if task == "tagging" else document - 1]
                np.testing.assert_allclose(target, labelled.target, rtol=1e-6)
                seen.append(tuple(labelled.row.tokens))
        assert sorted(seen) == sorted(of_text)
        orders.append(seen)
    assert len({tuple(order) for order in orders}) == 4
    again = packed_batches(rows, LENGTH, PACKED, (3, 4))(batches.order.steps + 1)
    for name, x in batches(batches.order.steps + 1).items():
        np.testing.assert_array_equal(x, again[name])


def test_a_packed_run_learns_and_is_evaluated_text_by_text(tmp_path):
    metrics, _ = tune(tmp_path, replace(SETTINGS, pack=4))
    assert metrics["dev"][0]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("name", "task", "change", "message"),
    [
        *(("bert", task, {}, "this task") for task in ("question-answering", "multiple-choice")),
        *(("t5", task, {}, "this task") for task in ("text-to-text", "crf-tagging")),
        *((name, "classification", {}, "Transformers") for name in ("rnn", "awd_lstm", "bytenet")),
        ("gpt", "classification", {"auxiliary": 0.5}, "--pack and --auxiliary"),
    ],
)
def test_what_needs_a_row_for_each_text_is_refused(name, task, change, message):
    architecture, config = tiny.TABLE[name].architecture, tiny.TABLE[name].config
    head = TASKS[task].head if name != "t5" else "text-to-text"
    model = architecture.TASKS[head](config)
    with pytest.raises(ValueError, match=message):
        check(model, TASKS[task], replace(PACKED, **change), has_teacher=False)


def test_texts_whose_features_are_computed_once_are_not_packed():
    with pytest.raises(ValueError, match="--pack needs --unfreeze all, not gradual"):
        replace(PACKED, unfreeze="gradual").check()
