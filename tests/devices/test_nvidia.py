"""A GPU that JAX cannot use is one clear line, found without starting JAX's backends."""

import pytest

from train.devices import nvidia

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}.65.06  Release Build\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Returns a function that makes a machine of a GPU, a driver, and wheels of JAX."""

    def make(gpu=True, driver=580, cuda=12, platforms=None):
        monkeypatch.setattr(nvidia, "DEVICES", tmp_path)
        monkeypatch.setattr(nvidia, "DRIVER", tmp_path / "version")
        packages = {"jax_plugins", f"jax_plugins.xla_cuda{cuda}"} if cuda else set()
        monkeypatch.setattr(nvidia, "find_spec", lambda name: name if name in packages else None)
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
        if gpu:
            (tmp_path / "nvidia0").touch()
        if driver:
            (tmp_path / "version").write_text(VERSION.format(driver))
        if platforms:
            monkeypatch.setenv("JAX_PLATFORMS", platforms)

    return make


@pytest.mark.parametrize(
    ("facts", "used"),
    [
        ({}, True),
        ({"platforms": "cuda,cpu"}, True),
        ({"platforms": "cpu"}, False),
        ({"gpu": False}, False),
        ({"cuda": None}, False),
    ],
)
def test_a_gpu_is_used_if_it_is_there_and_jax_has_cuda_and_may(machine, facts, used):
    machine(**facts)
    assert nvidia.is_used() is used
    nvidia.check()


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"cuda": None}, "is installed without CUDA: pip install 'language-zoo"),
        ({"gpu": False}, "this machine shows none"),
    ],
)
def test_a_gpu_that_is_asked_for_and_missing_is_refused(machine, facts, line):
    machine(platforms="gpu", **facts)
    with pytest.raises(ValueError, match=f"JAX_PLATFORMS=gpu asks for a GPU, but .*{line}"):
        nvidia.check()


@pytest.mark.parametrize(
    ("driver", "cuda", "least"),
    [(470, 12, 525), (524, 12, 525), (525, 12, None), (579, 13, 580), (None, 13, None)],
)
def test_a_driver_older_than_the_wheels_is_named(machine, driver, cuda, least):
    machine(driver=driver, cuda=cuda)
    line = nvidia.outdated_driver()
    assert (line is None) == (least is None)
    if least:
        assert f"driver {driver} is older than CUDA {cuda} needs, which is {least}" in line


def test_the_driver_does_not_matter_on_the_cpu(machine):
    machine(driver=470, platforms="cpu")
    assert nvidia.outdated_driver() is None
