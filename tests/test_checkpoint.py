"""Checkpoints of a run survive kills, damage and other numbers of devices, bit for bit."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import saved_run
from tests.saved_run import abstract, assert_same, sample
from train.checkpoint import Checkpoints
from zoo.checkpoints import model_folder
from zoo.checkpoints.arrays import Damaged, flatten

ROOT = Path(__file__).parents[1]


def saved(folder, *steps, keep=9):
    """Save these steps of a run in order, with loss 1/step."""
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, *sample(step), {"seed": step}, {"loss": 1 / step})
    checkpoints.close()
    return checkpoints


def test_the_average_is_over_the_newest_steps(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3)
    params, _ = abstract(sample(0))
    floats = lambda tree: flatten(jax.tree.map(lambda x: np.asarray(x, np.float32), tree))
    average, two, three = map(
        floats, (checkpoints.average(params, 2), *(sample(n)[0] for n in (2, 3)))
    )
    for path in average:
        np.testing.assert_allclose(average[path], (two[path] + three[path]) / 2, rtol=1e-2)


def test_a_step_saved_on_interruption_is_dropped_with_the_next_save_and_not_averaged(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, every=5)
    for step, loss in ((5, 4), (10, 3), (12, 1), (15, 3), (19, 2)):
        checkpoints.save(step, *sample(step), {}, {"loss": loss})
    checkpoints.close()
    assert checkpoints.latest() == [12, 15, 19]  # 12 is the best, 19 the last
    params, _ = abstract(sample(0))
    expected = [np.asarray(sample(step)[0]["temperature"]) for step in (15, 19)]
    average = checkpoints.average(params, 3)["temperature"]
    np.testing.assert_allclose(average, np.mean(expected), rtol=1e-6)
    checkpoints.save(20, *sample(20), {}, {"loss": 0})
    checkpoints.close()
    assert checkpoints.latest() == [15, 20]


def test_a_step_0_saved_on_interruption_is_dropped_with_the_next_and_not_averaged(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3, every=5)
    params, _ = abstract(sample(0))
    for step in (0, 5, 10):
        checkpoints.save(step, *sample(step), {}, {})
        checkpoints.close()
        assert checkpoints.latest()[0] == min(step, 5)
    expected = [np.asarray(sample(step)[0]["temperature"]) for step in (5, 10)]
    average = checkpoints.average(params, 3)["temperature"]
    np.testing.assert_allclose(average, np.mean(expected), rtol=1e-6)


def restored(folder):
    return Checkpoints(folder).restore(lambda _: abstract(sample(0)))


def program(action, folder, devices=1):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(
        [sys.executable, "-W", "error", saved_run.__file__, action, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def data_file(folder):
    return max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)


def flip(file, where=0.5):
    content = bytearray(file.read_bytes())
    content[int(len(content) * where)] ^= 2
    file.write_bytes(content)


def test_a_run_resumes_from_its_newest_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert restored("a run") is None
    assert Checkpoints("a run").meta() is None
    saved("a run", 1, 2)
    checkpoint = restored("a run")
    assert checkpoint.step == 2
    assert checkpoint.meta == {"seed": 2}
    assert checkpoint.skipped == []
    assert_same((checkpoint.params, checkpoint.state), sample(2))
    assert isinstance(checkpoint.state.optimizer[1][0], optax.ScaleByAdamState)
    assert Checkpoints("a run").latest() == [1, 2]
    assert Checkpoints("a run").meta() == {"seed": 2}


def test_a_checkpoint_saved_on_eight_devices_is_restored_on_any_number(tmp_path):
    finish(program("save", tmp_path, devices=8))
    programs = [program("restore", tmp_path, devices) for devices in (2, 4)]
    for layout in ("data", "data x fsdp"):
        checkpoint = restored(tmp_path / layout)
        assert_same((checkpoint.params, checkpoint.state), sample(1))
        model_folder.write(tmp_path / layout, "gpt2", saved_run.Config())
        params = model_folder.read(tmp_path / layout)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
        assert_same(params, sample(1)[0])
    for process in programs:
        finish(process)


def test_a_killed_run_loses_at_most_one_interval(tmp_path):
    """Kill a program that does nothing but save, at random moments, and let it resume."""
    moments = random.Random(0)
    for _ in range(3):
        process = program("forever", tmp_path)
        last = int(process.stdout.readline())
        until = time.monotonic() + moments.uniform(0, 0.5)
        while time.monotonic() < until:
            last = int(process.stdout.readline())
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        printed, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        # A step is printed when its save has begun, so the save of the step before has ended.
        last = max([last, *map(int, printed.split())])
        checkpoints = Checkpoints(tmp_path)
        checkpoint = checkpoints.restore(lambda _: abstract(sample(0, width=8192)))
        assert checkpoint.step >= last - 1
        assert checkpoint.skipped == []
        assert_same((checkpoint.params, checkpoint.state), sample(checkpoint.step, width=8192))
        assert all(p.name.isdecimal() for p in (tmp_path / "checkpoints").iterdir())
        model_folder.write(tmp_path, "gpt2", saved_run.Config())
        assert_same(model_folder.read(tmp_path), checkpoint.params)


@pytest.mark.parametrize("name", ["params", "state"])
def test_a_flipped_bit_is_detected_and_the_previous_step_is_used(tmp_path, name):
    saved(tmp_path, 1, 2, 3)
    flip(data_file(tmp_path / "checkpoints" / "3" / name))
    checkpoint = restored(tmp_path)
    assert checkpoint.step == 2
    assert checkpoint.meta == {"seed": 2}
    assert_same((checkpoint.params, checkpoint.state), sample(2))
    (skipped,) = checkpoint.skipped
    assert skipped.startswith("step 3 is damaged and skipped: ")
    paths = flatten(sample(3)[0 if name == "params" else 1])
    assert any(path in skipped for path in paths)
    assert f"checkpoints/3/{name}" in skipped


@pytest.mark.parametrize("damage", ["truncated", "missing"])
@pytest.mark.parametrize("name", ["params", "state", "meta"])
def test_a_step_with_a_truncated_or_missing_file_is_skipped(tmp_path, name, damage):
    saved(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints" / "2" / name
    file = folder / "data.json" if name == "meta" else data_file(folder)
    content = file.read_bytes()
    file.unlink() if damage == "missing" else file.write_bytes(content[: len(content) // 2])
    checkpoint = restored(tmp_path)
    assert checkpoint.step == 1
    assert "cannot be read: " in checkpoint.skipped[0]
    assert len(checkpoint.skipped[0].splitlines()) == 1


def test_if_every_step_is_damaged_the_error_names_all(tmp_path):
    saved(tmp_path, 1, 2)
    for step in (1, 2):
        flip(data_file(tmp_path / "checkpoints" / str(step) / "state"))
    with pytest.raises(Damaged, match=r"has no intact step: step 2 is .*; step 1 is ") as error:
        restored(tmp_path)
    assert "\n" not in str(error.value)


def test_another_structure_is_an_error_that_lists_the_differences(tmp_path):
    checkpoints = saved(tmp_path, 1)
    params, state = abstract(sample(0))

    with pytest.raises(ValueError, match="another model or optimizer") as error:
        checkpoints.restore(lambda _: (params, state._replace(optimizer=state.optimizer[1][0].mu)))
    assert "state/optimizer/1/0/nu/embed/table is saved but not expected" in str(error.value)
    assert "state/optimizer/embed/table is expected but not saved" in str(error.value)
    assert "state/step" not in str(error.value)

    with pytest.raises(ValueError, match="step is saved but not expected") as error:
        checkpoints.restore(lambda _: (params, state._replace(step=None)))
    assert str(error.value).count(" is saved") == 1  # nothing else differs

    wider = {**params, "embed": {"table": jax.ShapeDtypeStruct((64, 17), jnp.float32)}}
    with pytest.raises(
        ValueError, match=r"table is saved as float32\[64, 16\], not float32\[64, 17\]"
    ):
        checkpoints.restore(lambda _: (wider, state))

    other_key = jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))
    with pytest.raises(
        ValueError, match=r"state/key is saved as key<threefry2x32>\[\], not key<rbg>\[\]"
    ):
        checkpoints.restore(lambda _: (params, state._replace(key=other_key)))


def test_the_latest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, loss in enumerate([5.0, 1.0, 3.0, float("nan"), 2.0, 4.0]):
        checkpoints.save(step, *sample(step), {}, {"loss": loss})
    checkpoints.close()
    assert checkpoints.latest() == [1, 4, 5]
    later = Checkpoints(tmp_path, keep=1)
    later.save(6, *sample(6), {}, {})
    later.close()
    assert later.latest() == [1, 6]


def test_without_a_loss_the_latest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(4):
        checkpoints.save(step, *sample(step), {}, {"accuracy": 1.0})
    checkpoints.close()
    assert checkpoints.latest() == [2, 3]


def test_the_same_step_may_be_saved_again(tmp_path):
    checkpoints = saved(tmp_path, 1, 2)
    written = (tmp_path / "checkpoints" / "2").stat().st_mtime_ns
    checkpoints.save(2, *sample(2), {}, {})
    checkpoints.close()
    later = Checkpoints(tmp_path)
    assert later.restore(lambda _: abstract(sample(0))).step == 2
    later.save(2, *sample(2), {}, {})
    later.close()
    assert (tmp_path / "checkpoints" / "2").stat().st_mtime_ns == written


def test_a_run_that_skipped_damaged_steps_overwrites_them(tmp_path):
    saved(tmp_path, 1, 2, 3, 4)
    for step in (3, 4):
        flip(data_file(tmp_path / "checkpoints" / str(step) / "params"))
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.restore(lambda _: abstract(sample(0))).step == 2
    checkpoints.save(3, *sample(33), {"seed": 33}, {})
    checkpoints.close()
    assert checkpoints.latest() == [2, 3]
    checkpoint = restored(tmp_path)
    assert checkpoint.meta == {"seed": 33}
    assert_same((checkpoint.params, checkpoint.state), sample(33))


def test_a_skipped_step_does_not_count_towards_those_kept(tmp_path):
    saved(tmp_path, 1, 2, 3)
    flip(data_file(tmp_path / "checkpoints" / "3" / "params"))
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.restore(lambda _: abstract(sample(0))).step == 2
    checkpoints.save(5, *sample(5), {}, {})
    checkpoints.close()
    assert checkpoints.latest() == [2, 5]


@pytest.mark.parametrize("how", ["save", "check", "close"])
def test_a_failed_save_is_reported_and_removes_no_older_step(tmp_path, how):
    """The disk is full: no file may grow beyond a limit that is too small for the arrays."""
    checkpoints = saved(tmp_path, 1, keep=1)
    large = sample(2, width=8192)

    def wait_for_the_failure():
        while how == "check":
            checkpoints.check()
        if how == "close":
            checkpoints.close()
        checkpoints.save(3, *large, {}, {})

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
    try:
        checkpoints.save(2, *large, {}, {})
        with pytest.raises(OSError, match=r"/2 was not saved: .*File too large") as error:
            wait_for_the_failure()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(error.value)
    checkpoints.close()  # warns once
    assert checkpoints.latest() == [1]
    assert restored(tmp_path).step == 1
    checkpoints.save(2, *sample(2), {}, {"loss": 0.0})
    checkpoints.close()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert_same(restored(tmp_path).state, sample(2)[1])


def test_check_does_not_wait(tmp_path):
    class Endless:
        def finish(self, wait_s):
            assert wait_s == 0
            return False

    checkpoints = Checkpoints(tmp_path)
    checkpoints._saving = (1, Endless())
    checkpoints.check()
    assert checkpoints._saving is not None


def test_a_step_that_donates_its_state_does_not_change_what_is_saved(tmp_path):
    donating = jax.jit(lambda tree: jax.tree.map(lambda x: x * 2, tree), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    tree = {"moments": jnp.ones((1024, 2048)), "count": jnp.float32(1)}
    tree = donating(tree)
    for step in range(1, 4):
        checkpoints.save(step, {"w": sample(step)[0]}, tree, {}, {})
        tree = donating(donating(tree))
        tree["moments"].block_until_ready()
    checkpoints.close()

    target = abstract(({"w": sample(0)[0]}, tree))
    checkpoint = checkpoints.restore(lambda _: target)
    assert (np.asarray(checkpoint.state["moments"]) == 2 * 4**2).all()
    donating(checkpoint.state)["moments"].block_until_ready()
    restored_again = checkpoints.restore(lambda _: target)
    assert (np.asarray(restored_again.state["moments"]) == 2 * 4**2).all()


def test_at_least_one_step_is_kept(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1"):
        Checkpoints(tmp_path, keep=0)
