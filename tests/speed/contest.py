"""The race: every competitor in a process of its own, all but one of them asleep at any time."""

import contextlib
import dataclasses
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from tests.speed import keras_environment
from tests.speed.work import PRODUCT, Work, write_model

ROOT = Path(__file__).parents[2]
ours, theirs = (lambda: sys.executable), keras_environment.python


@dataclasses.dataclass(frozen=True)
class Entry:
    """Who takes part: the name in the table, the module that runs it, and with which Python."""

    name: str
    module: str
    variant: str = ""
    python: Callable[[], str] = ours


YARDSTICK, PRODUCTS = Entry("matrix rate", "matrix_rate"), 16
ENTRIES = {
    "step": [
        Entry("transformers", "torch_step", "shipped"),
        Entry("transformers, compiled", "torch_step", "compiled"),
        Entry("transformers, tuned", "torch_step", "tuned"),
        Entry("transformers, tuned and compiled", "torch_step", "tuned compiled"),
        Entry("KerasHub", "keras_step", python=theirs),
        Entry("zoo", "zoo_step"),
    ],
    "pretrain": [
        Entry("transformers", "torch_pretrain", "shipped"),
        Entry("transformers, compiled", "torch_pretrain", "compiled"),
        Entry("transformers, tuned", "torch_pretrain", "tuned"),
        Entry("transformers, tuned and compiled", "torch_pretrain", "tuned compiled"),
        Entry("zoo", "zoo_pretrain"),
    ],
    "recurrent": [
        Entry("torch.nn.LSTM", "torch_pretrain", "shipped"),
        Entry("torch.nn.LSTM, compiled", "torch_pretrain", "compiled"),
        Entry("torch.nn.LSTM, fused AdamW", "torch_pretrain", "tuned"),
        Entry("Keras", "keras_step", python=theirs),
        Entry("zoo", "zoo_pretrain"),
    ],
    "recurrence": [
        Entry("torch.nn.LSTM", "torch_recurrence"),
        Entry("Keras", "keras_recurrence", python=theirs),
        Entry("zoo", "zoo_recurrence"),
    ],
    "finetune": [
        Entry("transformers", "torch_finetune", "shipped"),
        Entry("transformers, compiled", "torch_finetune", "compiled"),
        Entry("transformers, tuned", "torch_finetune", "tuned"),
        Entry("zoo, one run after another", "zoo_finetune", "alone"),
        Entry("zoo", "zoo_finetune"),
    ],
    "words": [Entry("gensim", "gensim_words"), Entry("zoo", "zoo_words")],
    "translate": [
        Entry("transformers", "torch_translate", "shipped"),
        Entry("transformers, compiled", "torch_translate", "compiled"),
        Entry("zoo", "zoo_translate"),
    ],
    "decode": [
        Entry("transformers", "torch_decode", "shipped"),
        Entry("transformers, compiled", "torch_decode", "compiled"),
        Entry("KerasHub", "keras_decode", python=theirs),
        Entry("zoo", "zoo_decode"),
    ],
}


def entries(work: Work) -> list[Entry]:
    """Who takes part in a work. Steps in bfloat16 are measured against one in float32 too."""
    found = [e for e in ENTRIES[work.kind] if e.variant != "alone" or work.runs > 1]
    plain = Entry("transformers, float32", found[0].module, "shipped float32")
    return ([plain] if work.dtype == "bfloat16" else []) + found


# Equal weights, so equal losses: relative difference from the first competitor's.
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}

# Two threads for all, and waiting threads that sleep: PyTorch's spin otherwise and slow whoever is
# next. No network, and no compilation kept from an earlier run.
SETTINGS = {
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
    "KERAS_BACKEND": "jax",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Competitor:
    """One process. `facts` is what it says of itself, `turns` what its turns took a step."""

    def __init__(
        self, entry: Entry, work: Work, model: Path, scratch: Path, seconds: float | None = None
    ):
        self.entry, self.turns = entry, []
        self.steps = PRODUCTS if entry is YARDSTICK else work.turn
        arguments = [json.dumps(dataclasses.asdict(work)), str(model), entry.variant]
        environment = os.environ | SETTINGS | {"TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        self.log = scratch / f"{entry.module}-{entry.variant}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [entry.python(), "-m", f"tests.speed.{entry.module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        # Ended when its time is over, which a wait for its answer does not see otherwise.
        self.timer = threading.Timer(seconds or threading.TIMEOUT_MAX, self.process.kill)
        self.timer.daemon = True
        self.timer.start()
        self.facts = self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.close()
        lines = self.log.read_text().strip().splitlines() or ["no word of why"]
        raise RuntimeError(f"it does not run here: {lines[-1]}")

    def take_turn(self) -> None:
        self.process.stdin.write(f"{self.steps}\n")
        self.process.stdin.flush()
        self.turns.append({unit: used / self.steps for unit, used in self._answer().items()})

    def close(self) -> None:
        self.timer.cancel()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def check(facts: dict, expected: dict, tolerance: float) -> None:
    """Raises unless a competitor does the work that the first one does."""
    if facts["parameters"] != expected["parameters"]:
        raise ValueError(f"{facts['parameters']} parameters, not {expected['parameters']}")
    if facts["tokens"] != expected["tokens"]:
        raise ValueError("other tokens are decoded from the same weights and prompt")
    if "loss" in expected and abs(facts["loss"] / expected["loss"] - 1) > tolerance:
        raise ValueError(f"loss {facts['loss']} before training, not {expected['loss']}")


def prepare(work: Work, folder: Path) -> Path:
    """The folder of the weights to start from. Zoo's own are drawn in a process that has JAX."""
    if work.kind in ("step", "decode"):
        return write_model(work, folder)
    if work.kind == "words":  # each draws its own
        return folder
    arguments = [json.dumps(dataclasses.asdict(work)), str(folder)]
    command = [sys.executable, "-m", "tests.speed.zoo_weights", *arguments]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | SETTINGS)
    return folder


def race(work: Work, entries: list[Entry], rounds: int, say: Callable[[str], None]) -> dict:
    """One record: what each competitor is, and what each of its turns took, in seconds a step."""
    racers, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = prepare(work, scratch / "model")
        try:
            yardstick = Competitor(YARDSTICK, work, model, scratch)
            racers.append(yardstick)
            for entry in entries:
                say(f"{entry.name}: starting")
                try:
                    racer = Competitor(entry, work, model, scratch)
                except RuntimeError as problem:
                    say(f"{entry.name}: {problem}")
                    # The reason may name paths and hosts: it is printed here and kept nowhere.
                    rows.append({"name": entry.name, "missing": str(problem).split(":")[0]})
                    continue
                racers.append(racer)
                rows.append({"name": entry.name, **racer.facts})
                check(racer.facts, racers[1].facts, TOLERANCE[work.dtype])
            for turn in range(rounds):
                say(f"round {turn + 1} of {rounds}")
                # Nobody follows the same neighbour in every round.
                start = turn % len(racers)
                for racer in racers[start:] + racers[:start]:
                    racer.take_turn()
        finally:
            for racer in racers:
                racer.close()
    turns = {racer.entry.name: racer.turns for racer in racers}
    versions = {}
    for row in rows:
        versions |= row.pop("versions", {})
        row.pop("tokens", None)
        for unit in ("wall", "cpu"):
            row[unit] = [turn[unit] for turn in turns.get(row["name"], [])]
    return {
        "work": dataclasses.asdict(work),
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "processor": processor(),
        "versions": {"python": platform.python_version(), **versions},
        "matrix_rate": [2 * math.prod(PRODUCT) / turn["wall"] for turn in yardstick.turns],
        "competitors": rows,
    }


def commit() -> str:
    """The commit that was measured; a plus says that files had changed since."""
    git = lambda *words: subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "zoo", "train")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def processor() -> str:
    """The processor's model and how many cores of it take part."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"{name}, {cores} cores"
