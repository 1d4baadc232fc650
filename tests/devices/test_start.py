"""A command keeps the programs that it compiles, and the next one does not compile them again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.devices import nvidia, start

ROOT = Path(__file__).parents[2]
TINY = ["num_layers=1", "width=32", "mlp_width=64", "num_heads=2", "head_width=16", "max_length=32"]
# Runs a command, and prints at the first report, and at the end, how many programs were needed and
# how many of them were kept by an earlier process.
COUNT = """
import collections, sys
import jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: counts.update([name.rpartition("/")[2]]))
from train import __main__
from train.reporting.progress import Report
report = Report.steps
def counted(self, steps):
    if steps:
        print("first", counts["compile_requests_use_cache"], counts["cache_hits"], file=sys.stderr)
    report(self, steps)
Report.steps = counted
__main__.main()
print("all", counts["compile_requests_use_cache"], counts["cache_hits"], file=sys.stderr)
"""


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a command in a process of its own, with a cache of its own."""
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    variables = {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "ZOO_CACHE": str(folder / "cache"),
    }
    return subprocess.run(
        [sys.executable, "-c", COUNT, *arguments],
        env=inherited | variables | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def counts(done: subprocess.CompletedProcess, which: str) -> list[int]:
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith(which)]
    return [int(number) for number in lines[0]]


def test_a_second_run_compiles_nothing(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog ran home\n" * 300)
    arguments = ["pretrain", "gpt2-tiny", "--text", "text.txt", "--vocab-size", "280"]
    arguments += ["--steps", "10", "--batch", "2", "--length", "16", "--config", *TINY]
    every = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # trifles too
    cold = command(tmp_path, *arguments, "--out", "cold", **every)
    assert counts(cold, "first")[1] == 0
    warm = command(tmp_path, *arguments, "--out", "warm", **every)
    for which in ("first", "all"):
        needed, kept = counts(warm, which)
        assert needed == kept > 3
    files = {path.suffix or path.name for path in (tmp_path / "cache" / "compiled").iterdir()}
    assert ".lockfile" in files  # the size is limited


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "cache").touch()
    done = command(tmp_path, "list")
    assert done.returncode == 0
    first = done.stderr.splitlines()[0]
    assert first.startswith("zoo: compiled programs are not kept, as ")
    assert first.endswith("cache cannot be written: set ZOO_CACHE")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The settings of JAX that are updated, with a cache of its own."""
    updated = {}
    monkeypatch.setattr(start.jax.config, "update", updated.__setitem__)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(start.os, "environ", {"ZOO_CACHE": str(tmp_path)})
    return updated


def test_the_environment_has_the_last_word(settings, monkeypatch, tmp_path):
    assert start.keep_programs() == tmp_path / "compiled"
    assert settings["jax_compilation_cache_dir"] == str(tmp_path / "compiled")
    assert settings["jax_compilation_cache_max_size"] == start.MOST_BYTES
    settings.clear()
    start.os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = "-1"
    start.keep_programs()
    assert "jax_compilation_cache_max_size" not in settings
    settings.clear()
    start.os.environ["JAX_COMPILATION_CACHE_DIR"] = "/elsewhere"
    assert start.keep_programs() is None
    assert not settings


def test_what_a_killed_process_left_is_removed(settings, tmp_path):
    folder = tmp_path / "compiled"
    folder.mkdir()
    for name in ("jit_step-1-cache", "jit_step-1-atime", "jit_step-2-cache"):
        (folder / name).write_bytes(b"12345678")
    start.keep_programs()
    assert {path.name for path in folder.glob("jit*")} == {"jit_step-1-cache", "jit_step-1-atime"}


def test_flags_for_gpus_are_added_only_where_a_gpu_is_used(settings, monkeypatch):
    name, flag = start.GPU_FLAGS[0].partition("=")[0], start.GPU_FLAGS[0]
    monkeypatch.setattr(nvidia, "is_used", lambda: False)
    start.begin()
    assert "XLA_FLAGS" not in start.os.environ
    monkeypatch.setattr(nvidia, "is_used", lambda: True)
    start.begin()
    assert start.os.environ["XLA_FLAGS"] == flag
    for given in (f"{name}=true", f"{name} --xla_dump_to=x"):
        start.os.environ["XLA_FLAGS"] = given
        start.begin()
        assert start.os.environ["XLA_FLAGS"] == given


def test_xla_knows_the_flags_for_gpus():
    environment = os.environ | {"XLA_FLAGS": " ".join(start.GPU_FLAGS), "JAX_PLATFORMS": "cpu"}
    code = "import jax; jax.numpy.ones(1).sum()"  # an unknown flag ends the process
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_library_changes_no_setting():
    code = "import jax, zoo; assert jax.config.jax_compilation_cache_dir is None"
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    assert subprocess.run([sys.executable, "-c", code], env=inherited, cwd=ROOT).returncode == 0
