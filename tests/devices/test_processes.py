"""Two processes of four devices train like one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_run
from train import checkpoint
from train.pretraining import pretrain
from train.reporting.progress import read_log
from zoo.checkpoints import model_folder
from zoo.params import flatten

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys
import zoo
from tests import tiny_run
from train.devices import placement
from train.devices.mesh import MeshPlacement
from train.pretraining import pretrain
from tests.devices.test_processes import RECIPE
address, process, parallelism, fsdp, folder, stopped = sys.argv[1:]
placement.join_processes(address, 2, int(process))
mesh = -1, int(fsdp), 1
if process == stopped:
    step = MeshPlacement.step
    stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
    MeshPlacement.step = lambda self, *inputs: (stop(), step(self, *inputs))[1]
how = {"parallelism": parallelism, "mesh": mesh, "resume": True}
metrics = pretrain.pretrain(RECIPE, tiny_run.source(), folder, **how)
if metrics and process == "0":  # as `zoo pretrain` does for a sample
    zoo.load(folder)
"""
# Under pmap every replica has its own dropout.
RECIPE = tiny_run.recipe(dropout=0.0, steps=4, batch=16, save_every=2, report_every=1)


def run_two_processes(parallelism, fsdp, folder, stopped=None):
    """Run both processes to their end, or to a signal that one of them gets."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    settings = {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM,
                address,
                str(number),
                parallelism,
                str(fsdp),
                folder,
                str(stopped),
            ],
            env=os.environ | settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        errors = [process.communicate(timeout=200)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)


@pytest.fixture(scope="module")
def one_process_run(tmp_path_factory):
    """Return the folder of a run of one process on one device."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder / "cache"))
        pretrain.pretrain(RECIPE, tiny_run.source(), folder / "one")
    return folder / "one"


@pytest.mark.parametrize(("parallelism", "fsdp"), [("mesh", 2), ("pmap", 1)])
def test_two_processes_have_the_losses_and_the_model_of_one(
    parallelism, fsdp, one_process_run, tmp_path, monkeypatch
):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    if parallelism == "mesh":
        run_two_processes(parallelism, fsdp, str(tmp_path / "two"), stopped=1)
        assert checkpoint.steps(tmp_path / "two") == [1]
    run_two_processes(parallelism, fsdp, str(tmp_path / "two"))
    losses = [
        [e["loss"] for e in read_log(folder)] for folder in (one_process_run, tmp_path / "two")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    expected, actual = (
        flatten(model_folder.read(one_process_run)),
        flatten(model_folder.read(tmp_path / "two")),
    )
    for path, value in expected.items():
        np.testing.assert_allclose(actual[path], value, atol=1e-5, err_msg=path)
