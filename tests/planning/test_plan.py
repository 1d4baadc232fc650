"""A plan knows what a run needs before it starts."""

import dataclasses
import math

import jax
import pytest

from train.commands.plan import Plan
from train.planning import plan as planning
from train.planning.machines import CHIPS, machine
from train.planning.plan import Planner, plan
from train.planning.run_shapes import run_shapes
from train.recipes import recipe
from train.recipes.recipe import with_fields

GPT2, BERT = recipe("gpt2-tiny"), recipe("bert-tiny")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def test_the_flop_of_gpt2_are_those_of_its_formula():
    config, one = GPT2.config, plan(GPT2, machine("v5e:1x1"))
    kernels = config.num_layers * (4 * config.width**2 + 2 * config.width * config.mlp_width)
    tokens = GPT2.batch * GPT2.length
    expected = 6 * (kernels + config.vocab_size * config.width) * tokens
    expected += 12 * config.num_layers * config.width * GPT2.length * tokens
    assert one.model_flops == pytest.approx(expected, rel=1e-9)


def test_bytes_of_parameters_gradients_and_optimizer_are_exact():
    state = run_shapes(BERT).state()
    size = lambda tree: sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))
    memory = plan(BERT, machine("v5e:1x1")).memory
    assert memory.parameters == memory.gradients == size(state.params)
    assert memory.optimizer == size(state.opt_state)


def test_a_model_of_sound_is_planned_at_its_own_rate():
    assert plan(recipe("wavenet-sound"), machine("h100:1")).num_parameters > 1e6


def test_the_days_of_a_recipe_in_epochs_depend_on_the_text():
    chosen = recipe("awd-lstm-wikitext-2")
    assert plan(chosen, machine("h100:1")).days is None
    assert plan(with_fields(chosen, steps=1000), machine("h100:1")).days > 0


def test_activations_are_near_those_of_the_compiler_on_a_cpu():
    shapes = run_shapes(GPT2)
    step = jax.jit(shapes.step(), donate_argnums=0)
    compiled = step.lower(shapes.state(), shapes.batch()).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    memory = plan(GPT2, machine("cpu")).memory
    assert 0.4 < (memory.activations + memory.gradients) / temporary < 1.6


def test_devices_share_the_batch_over_data_and_the_state_over_fsdp():
    chosen = with_fields(GPT2, batch=64)
    one = plan(chosen, machine("v5e:1x1"))
    data = plan(chosen, machine("v5e:2x2"))
    fsdp = plan(chosen, machine("v5e:2x2"), (1, 4, 1))
    assert data.model_flops == fsdp.model_flops == one.model_flops / 4
    assert data.memory.parameters == one.memory.parameters
    assert fsdp.memory.parameters < 0.3 * one.memory.parameters
    assert data.communication["data"] == 2 * 3 / 4 * one.memory.gradients
    assert not data.communication["fsdp"]
    assert fsdp.communication["fsdp"] > 0
    assert not any(one.communication.values())


def test_more_micro_batches_need_less_memory_and_the_same_flop():
    chosen = with_fields(GPT2, batch=64)
    accumulated = plan(with_fields(chosen, accumulate=8), machine("v5e:1x1"))
    at_once = plan(chosen, machine("v5e:1x1"))
    assert accumulated.model_flops == at_once.model_flops
    assert accumulated.memory.activations < at_once.memory.activations / 4


def test_the_time_of_a_step_is_that_of_its_slowest_part():
    one = plan(GPT2, machine("v5e:1x1"))
    assert one.compute_seconds == one.model_flops / CHIPS["v5e"].flops
    assert one.step_seconds == max(one.compute_seconds, one.memory_seconds)
    assert one.tokens_per_second == GPT2.batch * GPT2.length / one.step_seconds
    assert one.days == GPT2.steps * one.step_seconds / 86_400
    assert one.cost(2.0) == one.days * 24 * 2.0
    assert plan(GPT2, machine("cpu")).step_seconds is None  # of unknown speed


def test_the_first_setting_that_fits_has_more_micro_batches_then_a_split_state():
    room = plan(GPT2, machine("v5e:2x2")).memory
    chip = dataclasses.replace(CHIPS["v5e"], memory=room.total / planning.USABLE - 1)
    small = dataclasses.replace(machine("v5e:2x2"), chip=chip)
    found = Planner(with_fields(GPT2, batch=8)).first_that_fits(small)
    assert found.recipe.accumulate == 2
    assert found.mesh == (4, 1, 1)
    split = plan(with_fields(GPT2, batch=8), machine("v5e:2x2"), (1, 4, 1)).memory
    chip = dataclasses.replace(chip, memory=split.total / planning.USABLE + 1)
    tiny = dataclasses.replace(small, chip=chip)
    found = Planner(with_fields(GPT2, batch=8)).first_that_fits(tiny)
    assert found.mesh == (1, 4, 1)
    chip = dataclasses.replace(chip, memory=room.parameters / 100)
    none = dataclasses.replace(small, chip=chip)
    assert Planner(with_fields(GPT2, batch=8)).first_that_fits(none) is None


def test_a_batch_smaller_than_the_machine_fits_only_where_layers_are_split():
    few = with_fields(GPT2, batch=4)
    found = Planner(few).first_that_fits(machine("v5e:4x4"))
    assert found is not None
    assert found.mesh == (1, 4, 4)
    assert Planner(with_fields(GPT2, batch=1)).first_that_fits(machine("v5e:4x4")) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e:3x4", "no such topology; use one of v5e:1x1, v5e:2x2"),
        ("v9", "unknown chip; use one of v4, v5e"),
        ("h100:0", "give the number of chips, such as h100:8"),
        ("cpu:2", "use cpu"),
    ],
)
def test_a_machine_that_does_not_exist_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        machine(name)


def test_a_mesh_and_a_batch_must_fit_the_machine():
    with pytest.raises(
        ValueError, match="--mesh 3 1 1 does not fit v5e:2x2: the product must be 4"
    ):
        plan(GPT2, machine("v5e:2x2"), (3, 1, 1))
    with pytest.raises(ValueError, match=r"a batch of 6 cannot be split .* use a multiple of 4"):
        plan(with_fields(GPT2, batch=6), machine("v5e:2x2"))


def test_without_its_compiler_a_tpu_is_planned_by_formula(monkeypatch):
    from train.planning import compiled

    with pytest.raises(ValueError, match="for TPUs: h100:8 is planned by formula"):
        compiled.check(machine("h100:8"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'language-zoo\[tpu\]'"):
        compiled.check(machine("v5e:2x2"))


def test_stacks_of_unlike_depths_cannot_be_compiled_layer_by_layer():
    from train.planning.compiled import with_depth

    t5 = recipe("t5-tiny")
    assert vars(with_depth(t5, 1).config)["num_decoder_layers"] == 1
    config = dataclasses.replace(t5.config, num_decoder_layers=t5.config.num_layers + 1)
    with pytest.raises(ValueError, match="equally deep"):
        with_depth(dataclasses.replace(t5, config=config), 1)


@pytest.mark.parametrize("name", ["skip-gram-tiny", "glove-tiny", "fasttext-tiny", "ngram"])
def test_what_is_no_network_is_refused(name):
    with pytest.raises(ValueError, match="zoo plan is for networks"):
        Plan(name, on=("cpu",)).run()


def test_the_model_s_flop_are_those_of_the_plain_form_and_the_scores_are_not_moved():
    chosen = with_fields(GPT2, batch=8, length=128)
    on_cpu = plan(chosen, machine("cpu"))
    on_tpu = plan(chosen, machine("v5e:1x1"))
    assert on_tpu.model_flops == on_cpu.model_flops
    config = chosen.config
    scores = 4 * 8 * config.num_heads * 128 * 128 * config.num_layers
    assert on_cpu.moved - on_tpu.moved > 4 * scores
