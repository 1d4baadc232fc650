"""Every placement on devices gives the results of one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from train.devices.parallelism import PARALLELISM
from train.devices.placement import Training

ROOT = Path(__file__).parents[2]
PLACEMENTS = ("8x1x1", "1x8x1", "2x2x2", "pmap")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the results of one process with eight devices."""
    folder = tmp_path_factory.mktemp("eight")
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    # Programs with collectives that overlap on a few cores can deadlock.
    environment |= {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}
    environment |= {"PYTHONPATH": str(ROOT), "ZOO_CACHE": str(folder / "cache")}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.eight_devices", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads((folder / "results.json").read_text())


def assert_same(actual, expected, start=0):
    """Compare losses up to the order of sums, after AdamW steps with learning rate 0.01."""
    np.testing.assert_allclose(actual["losses"], expected["losses"][start:], rtol=2e-5)
    assert actual["held_out"].keys() == expected["held_out"].keys()
    np.testing.assert_allclose(actual["held_out"]["loss"], expected["held_out"]["loss"], rtol=2e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_five_steps_have_the_losses_of_one_device(placement, results):
    assert_same(results[placement], results["one device"])
    assert results["one device"]["losses"][-1] < results["one device"]["losses"][0] - 0.1


@pytest.mark.parametrize("placement", ["8x1x1", "2x2x2"])
def test_dropout_on_a_mesh_is_that_of_one_device(placement, results):
    assert_same(results[f"{placement}, dropout"], results["one device, dropout"])
    assert (
        abs(results["one device, dropout"]["losses"][0] - results["one device"]["losses"][0]) > 1e-4
    )


@pytest.mark.parametrize("placement", ["8x1x1", "1x8x1", "2x2x2"])
def test_word_vectors_on_a_mesh_have_the_losses_of_one_device(placement, results):
    expected = results["one device, word vectors"]
    assert_same(results[f"{placement}, word vectors"], expected)
    assert expected["losses"][-1] < expected["losses"][0] - 0.1


@pytest.mark.parametrize("placement", ["2x2x2", "pmap"])
def test_accumulation_has_the_losses_of_one_device(placement, results):
    assert_same(results[f"{placement}, accumulated"], results["one device, accumulated"])


@pytest.mark.parametrize("number", range(len(PLACEMENTS)))
def test_a_run_saved_under_one_placement_resumes_under_another(number, results):
    before, after = PLACEMENTS[number], (PLACEMENTS * 2)[number + 1]
    resumed = results["restored"][f"{before} to {after}"]
    assert len(resumed["losses"]) == 2
    assert_same(resumed, results["one device"], start=3)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_step_is_compiled_once(placement, results):
    assert results[placement]["compiled"] == 1


def test_the_state_is_created_in_its_final_layout(results):
    initial = results["created"]
    assert initial["layout"]["params/trunk/token_embedding/embedding"] == [[64, 32], [32, 16]]
    kernels = {
        path: (shape, local_shape)
        for path, (shape, local_shape) in initial["layout"].items()
        if path.endswith("kernel") or path.endswith("embedding")
    }
    assert len(kernels) == 3 * (2 + 2 * 6)  # the parameters and two moments
    for shape, local_shape in kernels.values():
        assert np.prod(shape) == 4 * np.prod(local_shape)
    assert initial["bytes_out"] < 0.3 * initial["bytes_total"]


def test_no_device_computes_all_rows_where_parameters_are_split_over_the_devices_of_rows(results):
    assert results["whole batches"] == {"gpt2-tiny": [], "bert-tiny": [], "t5-tiny": []}


def make_placement(parallelism="mesh", batch=8, accumulate=1, mesh=(-1, 1, 1)):
    parts = dict.fromkeys(("model", "init", "objective", "optimizer", "schedule", "axes", "dtype"))
    training = Training(**parts, batch_size=batch, seed=0, accumulate=accumulate)
    return PARALLELISM[parallelism](training, mesh)


@pytest.mark.parametrize("placement", ["mesh", "pmap"])
def test_a_batch_that_does_not_divide_is_refused(placement):
    with pytest.raises(ValueError, match=r"^a batch of 7 cannot be split into 2 parts over \d dev"):
        make_placement(placement, batch=7, accumulate=2)


def test_a_mesh_of_more_devices_than_there_are_is_refused():
    assert jax.device_count() < 99
    with pytest.raises(
        ValueError, match=r"^a mesh of 99 x 1 x 1 does not fit \d+ devices: the product"
    ):
        make_placement(mesh=(99, 1, 1))


def test_a_mesh_whose_tensor_axis_spans_processes_is_refused(monkeypatch):
    # In JAX, each process would count its own rows as those of all.
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"^2 processes cannot read 1 parts of the rows"):
        make_placement(mesh=(1, 1, jax.device_count()))


def test_pmap_does_not_split_parameters():
    with pytest.raises(ValueError, match=r"^--parallel pmap keeps all parameters on every device"):
        make_placement("pmap", mesh=(1, 2, 1))
