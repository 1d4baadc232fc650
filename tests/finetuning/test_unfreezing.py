"""Unfreezing: the chosen groups of parameters are trained, the others stay to the bit."""

import itertools
from dataclasses import replace

import chex
import jax
import numpy as np
import optax
import pytest

from tests import tiny
from tests.tiny_task import CLASSIFICATION, DATA, SETTINGS, changed, folder, trained
from train.finetuning import transfer, tuning, unfreezing
from train.finetuning.tasks.task import encode
from zoo import registry
from zoo.models import bert
from zoo.params import abstract, flatten


def test_groups_go_from_the_input_to_the_output():
    config = bert.Config(vocab_size=16, max_length=32, num_heads=2, width=16, head_width=8)
    paths = list(flatten(abstract(bert.BertClassifier(config))))
    groups = unfreezing.groups(paths[::-1], bert.GROUPS)
    assert len(groups) == 14
    assert all("embedding" in path for path in groups[0])
    for number, group in enumerate(groups[1:-1]):
        assert all(path.startswith(f"trunk/blocks_{number}/") for path in group)
    assert {path.split("/")[0] for path in groups[-1]} == {"pooler", "classes"}
    assert sorted(itertools.chain(*groups)) == sorted(paths)


# Those of word vectors are in tests/finetuning/test_vectors.py.
@pytest.mark.parametrize("name", [n for n in tiny.TABLE if registry.named(n).TASKS])
def test_every_model_has_groups_that_hold_every_parameter_and_a_head(name):
    architecture = registry.named(name)
    for task, cls in architecture.TASKS.items():
        paths = list(flatten(abstract(cls(tiny.TABLE[name].config))))
        groups = unfreezing.groups(paths, architecture.GROUPS)
        assert sorted(itertools.chain(*groups)) == sorted(paths)
        assert len(groups) >= 3
        if task == "text-to-text":  # the whole model generates
            continue
        assert not any(path.startswith("trunk/") for path in groups[-1])
        assert all(path.startswith("trunk/") for group in groups[:-1] for path in group)


def test_learning_rates_grow_by_equal_factors_or_fall_by_layers():
    rates = unfreezing.learning_rates
    np.testing.assert_allclose(rates("1e-6:1e-4", 3), [1e-6, 1e-5, 1e-4])
    np.testing.assert_allclose(rates("1e-3", 3, 0.5), [2.5e-4, 5e-4, 1e-3])
    for wrong in ("fast", "1e-3:x", "0", "-1", "1e-3:0"):
        with pytest.raises(ValueError, match="--learning-rate"):
            rates(wrong, 3)


def test_head_trains_the_head_alone(tmp_path):
    before, (after,) = trained(tmp_path, replace(SETTINGS, unfreeze="head"))
    paths = changed(before, after)
    assert paths
    assert not any(path.startswith("trunk/") for path in paths)


def test_features_of_texts_are_never_cut_as_their_tokens_are(tmp_path):
    longer = [text._replace(text=text.text + " a" * 4) for text in DATA["train"]]
    data = {"train": longer, "dev": DATA["dev"]}  # the longest has 16 tokens, as the model is wide
    settings = replace(SETTINGS, unfreeze="head", batch=4, epochs=1.0)
    before, (after,) = trained(tmp_path, settings, data)
    assert all(path.startswith("trunk/") for path in before.keys() - changed(before, after))


def test_all_trains_everything_that_has_a_gradient(tmp_path):
    before, (after,) = trained(tmp_path, SETTINGS)
    still = before.keys() - changed(before, after)
    # A shift of all scores of a query, and segments and positions that no text here has.
    assert all(path.endswith("key/bias") for path in still)


@pytest.mark.parametrize("stages", [1, 3])
def test_gradual_unfreezing_leaves_the_groups_below_to_the_bit(tmp_path, monkeypatch, stages):
    gradual = unfreezing.gradual
    first = lambda groups, epochs: gradual(groups, epochs)[:stages]
    monkeypatch.setitem(unfreezing.STRATEGIES, "gradual", first)
    before, (after,) = trained(tmp_path, replace(SETTINGS, unfreeze="gradual"))
    groups, paths = unfreezing.groups(list(before), bert.GROUPS), changed(before, after)
    for number, group in enumerate(groups):
        assert bool(paths & set(group)) == (number >= len(groups) - stages)


def test_the_head_goes_first_and_then_everything(tmp_path, monkeypatch):
    head_first, settings = unfreezing.head_first, replace(SETTINGS, unfreeze="head-first")
    before, (after,) = trained(tmp_path, settings)
    assert any(path.startswith("trunk/blocks_0") for path in changed(before, after))
    first = lambda groups, epochs: head_first(groups, epochs)[:1]
    monkeypatch.setitem(unfreezing.STRATEGIES, "head-first", first)
    before, (after,) = trained(tmp_path, settings)
    assert not any(path.startswith("trunk/") for path in changed(before, after))


def test_a_learning_rate_moves_its_group_in_proportion(tmp_path):
    settings = replace(
        SETTINGS,
        schedule="constant",
        learning_rate="1e-6:1e-2",
        epochs=1 / 6,
        weight_decay=0.0,
    )
    before, (after,) = trained(tmp_path, settings)
    groups = unfreezing.groups(list(before), bert.GROUPS)
    rates = unfreezing.learning_rates(settings.learning_rate, len(groups))
    for group, rate in zip(groups, rates, strict=True):
        steps = [np.abs(after[p] - before[p]).max() for p in group]
        assert 0.5 * rate < max(steps) < 1.1 * rate  # Adam's first step is the learning rate


def test_new_parameters_need_no_key(tmp_path):
    saved = folder(tmp_path)
    (_, params, _), new = transfer.load_for_task(saved, "classification", ("bad", "good"))
    (_, same, _), _ = transfer.load_for_task(
        saved, "classification", ("bad", "good"), key=jax.random.key(0)
    )
    assert new
    chex.assert_trees_all_equal(params, same)


def test_a_frozen_group_has_no_backward_pass_and_no_optimizer_state(tmp_path):
    loaded, new_paths = transfer.load_for_task(
        folder(tmp_path), "classification", ("bad", "good"), key=jax.random.key(0)
    )
    rows = {name: encode(CLASSIFICATION, loaded, DATA[name], 32) for name in DATA}
    settings = replace(SETTINGS, unfreeze="gradual")
    out = tmp_path / "run"
    runs = tuning.prepare(loaded, new_paths, CLASSIFICATION, DATA["dev"], rows, out, settings)
    flops = []
    for number in range(1, len(runs.stages)):  # the head alone is trained on stored features
        stage = runs.stage(number)
        trained = {path: x.shape for path, x in runs.trained(number).items()}
        moments = optax.tree.get_all_with_path(stage.placement.abstract.opt_state, "mu")
        assert {path: x.shape for path, x in moments[0][1].items()} == trained
        state = stage.placement.begin(runs.trained(number))
        objective, batch = stage.placement._objective, stage.placement.put(stage.batches(0))
        program = stage.placement._step.lower(objective, state, batch)
        flops.append(program.cost_analysis()["flops"])
    assert flops == sorted(flops)
    # Of three equal passes, only the forward one is left below the first trained block.
    assert flops[0] < 0.8 * flops[-1]
