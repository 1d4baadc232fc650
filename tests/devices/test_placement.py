"""Every way of using devices gives what one device gives."""

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
def found(tmp_path_factory):
    """What one process with eight devices finds."""
    folder = tmp_path_factory.mktemp("eight")
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    # Programs with collectives that overlap on a few cores can wait for each other for ever.
    environment |= {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}
    environment |= {"PYTHONPATH": str(ROOT), "ZOO_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.eight_devices", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text())


def assert_same(one, other, start=0):
    """Sums in another order, after AdamW steps of a hundredth."""
    np.testing.assert_allclose(one["losses"], other["losses"][start:], rtol=2e-5)
    assert one["held_out"].keys() == other["held_out"].keys()
    np.testing.assert_allclose(one["held_out"]["loss"], other["held_out"]["loss"], rtol=2e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_five_steps_have_the_losses_of_one_device(placement, found):
    assert_same(found[placement], found["alone"])
    assert found["alone"]["losses"][-1] < found["alone"]["losses"][0] - 0.1


@pytest.mark.parametrize("placement", ["8x1x1", "2x2x2"])
def test_a_mesh_draws_the_dropout_of_one_device(placement, found):
    assert_same(found[f"{placement}, dropout"], found["alone, dropout"])
    assert abs(found["alone, dropout"]["losses"][0] - found["alone"]["losses"][0]) > 1e-4


@pytest.mark.parametrize("placement", ["2x2x2", "pmap"])
def test_accumulated_parts_have_the_losses_of_one_device(placement, found):
    assert_same(found[f"{placement}, parts"], found["alone, parts"])


@pytest.mark.parametrize("number", range(len(PLACEMENTS)))
def test_a_run_saved_under_one_way_goes_on_under_another(number, found):
    before, after = PLACEMENTS[number], (PLACEMENTS * 2)[number + 1]
    again = found["restored"][f"{before} to {after}"]
    assert len(again["losses"]) == 2
    assert_same(again, found["alone"], start=3)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_step_is_compiled_once(placement, found):
    assert found[placement]["compiled"] == 1


def test_the_state_is_created_where_it_is_to_lie(found):
    created = found["created"]
    assert created["layout"]["params/trunk/token_embedding/embedding"] == [[64, 32], [32, 16]]
    kernels = {
        path: (whole, part)
        for path, (whole, part) in created["layout"].items()
        if path.endswith("kernel") or path.endswith("embedding")
    }
    assert len(kernels) == 3 * (2 + 2 * 6)  # the parameters and two moments
    for whole, part in kernels.values():
        assert np.prod(whole) == 4 * np.prod(part)
    assert created["bytes_out"] < 0.3 * created["bytes_whole"]


def place(parallelism="mesh", batch=8, accumulate=1, mesh=(-1, 1, 1)):
    parts = dict.fromkeys(("model", "init", "objective", "optimizer", "schedule", "axes", "dtype"))
    training = Training(**parts, batch_size=batch, seed=0, accumulate=accumulate)
    return PARALLELISM[parallelism](training, mesh)


@pytest.mark.parametrize("placement", ["mesh", "pmap"])
def test_a_batch_that_does_not_divide_is_refused(placement):
    with pytest.raises(ValueError, match=r"^a batch of 7 cannot be split into 2 parts over \d dev"):
        place(placement, batch=7, accumulate=2)


def test_a_mesh_of_more_devices_than_there_are_is_refused():
    assert jax.device_count() < 99
    with pytest.raises(
        ValueError, match=r"^a mesh of 99 x 1 x 1 does not fit \d+ devices: the product"
    ):
        place(mesh=(99, 1, 1))


def test_pmap_does_not_split_parameters():
    with pytest.raises(ValueError, match=r"^--parallel pmap keeps all parameters on every device"):
        place("pmap", mesh=(1, 2, 1))
