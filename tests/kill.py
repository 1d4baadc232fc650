"""Kill runs at random moments, and compare them bit for bit with runs that were left alone.

python -m tests.kill gpt2-tiny bert-tiny --times 20
python -m tests.kill classification tagging question-answering --folder runs/bert-tiny --times 5

A command, not a test: with twenty kills a recipe takes minutes.
"""

import argparse
import gzip
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

PRETRAIN = """
import sys
from dataclasses import replace
from train.data.sources import builtin
from train.pretraining import pretrain
from train.recipes import recipe
name, out, *numbers = sys.argv[1:]
steps, batch, length, save_every = map(int, numbers)
run = replace(recipe(name), steps=steps, batch=batch, length=length, save_every=save_every,
              evaluate_every=steps, report_every=1)
pretrain.pretrain(run, builtin.read(), out, resume=True)
"""
# Fine-tuning of each kind: with data in ZOO_DATA, and options that have a state of their own.
FINETUNE = {
    "classification": ("cls_sst2/train.tsv", "cls_sst2/dev.tsv", "--seeds", "3"),
    "tagging": (
        "tag_ud_ewt/en_ewt-ud-train.conllu.gz",
        "tag_ud_ewt/en_ewt-ud-dev.conllu.gz",
        "--unfreeze",
        "gradual",
    ),
    "question-answering": (
        "qa_squad_v11/train-v1.1-html.part1.json.gz",
        None,
        "--accumulate",
        "2",
        "--patience",
        "9",
    ),
}


def command(name, folder, numbers, pretrained) -> list[str]:
    """Return the command of a run."""
    if name not in FINETUNE:
        return ["-c", PRETRAIN, name, str(folder), *map(str, numbers)]
    train, dev, *options = FINETUNE[name]
    steps, batch, length, save_every = numbers
    data = Path(os.environ["ZOO_DATA"])
    files = ["--train", str(few(data / train, folder.parent / Path(train).name))]
    files += ["--dev", str(few(data / dev, folder.parent / Path(dev).name))] if dev else []
    limit = ["--limit", str(steps * batch // 3), "--epochs", "3"]
    sizes = ["--batch", str(batch), "--length", str(length), "--save-every", str(save_every)]
    run = ["finetune", str(pretrained), "--task", name, "--out", str(folder), "--resume"]
    return ["-m", "train", *run, *files, *limit, *sizes, *options]


def few(path, out) -> Path:
    """Write the beginning of a data file, since predicting for all of it would take minutes."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    if ".json" in path.suffixes:
        squad = json.loads(text)
        text = json.dumps(squad | {"data": squad["data"][:2]})
    else:
        # Enough for every tag to occur.
        is_tagged = ".conllu" in path.suffixes
        text = text[: text.index("\n\n" if is_tagged else "\n", 10**6 if is_tagged else 60_000) + 1]
    out = out.with_suffix("") if out.suffix == ".gz" else out
    out.write_text(text)
    return out


def started(name, folder, numbers, pretrained):
    """Start a run, which resumes from what its folder holds."""
    return subprocess.Popen(
        [sys.executable, *command(name, folder, numbers, pretrained)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )


def finish(process):
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(errors.decode())


def compare(name, times, numbers, folder, pretrained) -> str:
    """Run both ways, and return a line with the result."""
    alone, killed = folder / f"{name}-alone", folder / f"{name}-killed"
    run = numbers, pretrained
    finish(started(name, folder / f"{name}-first", *run))  # prepares tokenizer and corpus
    begin = time.time()
    finish(started(name, alone, *run))
    moments = trained(alone)
    startup, training = moments[0] - begin, moments[-1] - moments[0]
    for number in range(times):
        begin = time.time()
        process = started(name, killed, *run)
        # Every other kill falls while the run starts or restores, the others while it trains: never
        # so much of it that fewer kills than `times` would see the end.
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
    finish(started(name, killed, *run))
    params, expected = flatten(model_folder.read(killed)), flatten(model_folder.read(alone))
    same = params.keys() == expected.keys() and all(
        np.array_equal(params[path], expected[path]) for path in params
    )
    # The rest of the state too, such as what a recurrent model carries: by its fingerprints.
    last = model_folder.steps(alone)[-1]
    records = [read_record(run / "checkpoints" / str(last)) for run in (killed, alone)]
    same &= records[0] == records[1]
    return f"{name}: {times} kills, {'bit for bit the same' if same else 'DIFFERENT'}"


def trained(folder) -> list[float]:
    """Return when the steps in a run's log were reported."""
    log = folder / "log.jsonl"
    text = log.read_text() if log.exists() else ""
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line["time"] for line in map(json.loads, lines) if line["kind"] == "train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="recipes, or tasks to fine-tune on")
    parser.add_argument("--folder", type=Path, help="the pretrained model to fine-tune")
    flags = {"times": 20, "steps": 300, "batch": 4, "length": 32, "save-every": 3}
    for flag, value in flags.items():
        parser.add_argument(f"--{flag}", type=int, default=value)
    arguments = parser.parse_args()
    numbers = (arguments.steps, arguments.batch, arguments.length, arguments.save_every)
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for name in arguments.runs:
            line = compare(name, arguments.times, numbers, Path(folder), arguments.folder)
            results.append(line)
            print(line, flush=True)
    sys.exit("DIFFERENT" in "".join(results))


if __name__ == "__main__":
    main()
