"""Kill recipes at random moments, and compare them bit for bit with uninterrupted runs.

python -m tests.kill gpt2-tiny bert-tiny --times 20

A command, not a test: with twenty kills per recipe it takes minutes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from zoo.checkpoints import model_folder
from zoo.checkpoints.arrays import read_record
from zoo.params import flatten

PROGRAM = """
import sys
from dataclasses import replace
from train.data.sources import builtin
from train.pretraining import loop
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
    """Run a recipe with and without kills, and return a line with the result."""
    uninterrupted, killed = folder / f"{name}-alone", folder / f"{name}-killed"
    finish(
        started(name, folder / f"{name}-first", numbers)
    )  # prepares the tokenizer and the corpus
    begin = time.time()
    finish(started(name, uninterrupted, numbers))
    moments = trained(uninterrupted)
    startup, training = moments[0] - begin, moments[-1] - moments[0]
    for number in range(times):
        begin = time.time()
        process = started(name, killed, numbers)
        # Half of the kills come while the run starts or restores, the others while it trains, early
        # enough that the run does not end before the last kill.
        if number % 2:
            time.sleep(random.uniform(0, 0.8 * startup))
        else:
            while process.poll() is None and max(trained(killed), default=0) < begin:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 1.8 * training / times))
        if process.poll() is not None:
            sys.exit(f"{name} ended by itself, before kill {number + 1}: give it more --steps")
        process.kill()
        process.communicate()
    finish(started(name, killed, numbers))
    ours, theirs = flatten(model_folder.read(killed)), flatten(model_folder.read(uninterrupted))
    equal = ours.keys() == theirs.keys() and all(
        np.array_equal(ours[path], theirs[path]) for path in ours
    )
    # The rest of the state too, such as the carry of a recurrent model, by its fingerprints.
    last = [read_record(run / "checkpoints" / str(numbers[0])) for run in (killed, uninterrupted)]
    equal &= last[0] == last[1]
    return f"{name}: {times} kills, {'bit for bit the same' if equal else 'DIFFERENT'}"


def trained(folder) -> list[float]:
    """Return the times at which the steps in a run's log were reported."""
    log = folder / "log.jsonl"
    written = log.read_text() if log.exists() else ""
    complete = [line for line in written.splitlines(keepends=True) if line.endswith("\n")]
    return [line["time"] for line in map(json.loads, complete) if line["kind"] == "train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+")
    flags = {"times": 20, "steps": 300, "batch": 4, "length": 32, "save-every": 3}
    for flag, value in flags.items():
        parser.add_argument(f"--{flag}", type=int, default=value)
    arguments = parser.parse_args()
    numbers = (arguments.steps, arguments.batch, arguments.length, arguments.save_every)
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for name in arguments.recipes:
            results.append(compare(name, arguments.times, numbers, Path(folder)))
            print(results[-1], flush=True)
    sys.exit("DIFFERENT" in "".join(results))


if __name__ == "__main__":
    main()
