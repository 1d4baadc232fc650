"""Kills recipes at random moments, and compares them bit for bit with runs that were left alone.

python -m tests.kill gpt2-tiny bert-tiny --times 20 --steps 30

A command, not a test: with twenty kills a recipe takes minutes.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from zoo import checkpoint
from zoo.huggingface import flatten

PROGRAM = """
import sys
from dataclasses import replace
from train import loop
from train.data import builtin
from train.recipes import recipe
name, out, *numbers = sys.argv[1:]
steps, batch, length, save_every = map(int, numbers)
run = replace(recipe(name), steps=steps, batch=batch, length=length, save_every=save_every,
              evaluate_every=steps, report_every=1)
loop.pretrain(run, builtin.read(), out, resume=True)
"""


def started(name, folder, numbers):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, name, str(folder), *map(str, numbers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )


def finish(process):
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(errors.decode())


def compare(name, times, numbers, folder) -> str:
    """Runs a recipe both ways: the line that says how it went."""
    alone, killed = folder / f"{name}-alone", folder / f"{name}-killed"
    finish(started(name, alone, numbers))  # prepares tokenizer and corpus: not what a run takes
    begin = time.monotonic()
    finish(started(name, folder / f"{name}-again", numbers))
    seconds, landed, ended = time.monotonic() - begin, 0, False
    while landed < times and not ended:
        process = started(name, killed, numbers)
        try:
            ended = process.wait(random.uniform(0, 1.2 * seconds)) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            landed += 1
    finish(started(name, killed, numbers))
    ours, theirs = flatten(checkpoint.read(killed)), flatten(checkpoint.read(alone))
    same = ours.keys() == theirs.keys() and all(
        np.array_equal(ours[path], theirs[path]) for path in ours
    )
    return f"{name}: {landed} kills, {'bit for bit the same' if same else 'DIFFERENT'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+")
    flags = {"times": 20, "steps": 30, "batch": 4, "length": 32, "save-every": 3}
    for flag, value in flags.items():
        parser.add_argument(f"--{flag}", type=int, default=value)
    asked = parser.parse_args()
    numbers = (asked.steps, asked.batch, asked.length, asked.save_every)
    with tempfile.TemporaryDirectory() as folder:
        lines = [compare(name, asked.times, numbers, Path(folder)) for name in asked.recipes]
    print("\n".join(lines))
    sys.exit("DIFFERENT" in "".join(lines))


if __name__ == "__main__":
    main()
