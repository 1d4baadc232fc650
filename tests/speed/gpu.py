"""What one GPU does in training and decoding, beside what it can do at best and beside its peers.

    python -m tests.speed gpu                  all rows that are not in gpu.jsonl yet
    python -m tests.speed gpu --small          tiny sizes, to try this on a CPU

It stops after nine minutes; then the same command goes on. Each row is a process of its own, which
has the GPU for itself, and is printed and appended to gpu.jsonl when it is done: the rates of the
GPU, then zoo, then torch. Losses are not compared here, but by `python -m tests.speed gpt2 bert`.
"""

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tests.speed.contest import Competitor, Entry, commit, prepare
from tests.speed.matrix_rate import amount
from tests.speed.work import GPT2_BASE, Work
from train.devices import nvidia, start

RESULTS = Path(__file__).with_name("gpu.jsonl")
LIMIT_S, LEAST_S = 540, 20  # a row that has less time left is not begun
TURNS, STEPS = 3, 10
MATRIX = Entry("matrix rate", "matrix_rate", "large")
MEMORY = Entry("memory rate", "matrix_rate", "copy")
BERT = dict(vocab_size=30522, max_length=512, predictions=77)
BASE = dict(num_layers=12, num_heads=12, width=768, mlp_width=3072)
LARGE = dict(num_layers=24, num_heads=16, width=1024, mlp_width=4096)
XL = GPT2_BASE | dict(num_layers=48, num_heads=25, width=1600, mlp_width=6400)
SPANS = dict(vocab_size=32128, max_length=512, spans=26, cut=77)
COMPILED, BEST = "transformers, compiled", "tuned compiled"  # a name, and a variant
STEP = [Entry("zoo", "zoo_step", "unchecked"), Entry("transformers", "torch_step", BEST)]
OTHERS = [Entry("zoo", "zoo_pretrain", "unchecked"), Entry("transformers", "torch_pretrain", BEST)]
WORKS = [
    (Work("GPT-2 124M, 32 x 1024", "step", "gpt2", "bfloat16", 32, **GPT2_BASE), STEP),
    (Work("BERT base, 64 x 512", "step", "bert", "bfloat16", 64, packed=4, **BERT, **BASE), STEP),
    (Work("BERT large, 32 x 512", "step", "bert", "bfloat16", 32, packed=4, **BERT, **LARGE), STEP),
    (
        Work(
            "T5 1.1 base, 64 x 512 in, 104 out",
            "pretrain",
            "t5_v1_1",
            "bfloat16",
            64,
            **SPANS,
            **(BASE | {"mlp_width": 2048}),
        ),
        OTHERS,
    ),
    (
        Work(
            "ELECTRA base, 64 x 512",
            "pretrain",
            "electra",
            "bfloat16",
            64,
            narrow=256,
            embed_width=768,
            **BERT,
            **BASE,
        ),
        OTHERS,
    ),
    (
        Work(
            "LSTM language model 2 x 1024, 128 x 128, float32",
            "recurrent",
            "rnn",
            "float32",
            128,
            vocab_size=10_000,
            num_layers=2,
            width=1024,
        ),
        [OTHERS[0], Entry("torch, cuDNN", "torch_pretrain", "tuned")],
    ),
    (
        Work(
            "GPT-2 XL, greedy decoding, 1 row, 256 tokens after 32",
            "decode",
            "gpt2",
            "bfloat16",
            1,
            new_tokens=256,
            **XL,
        ),
        [
            Entry("zoo", "zoo_decode"),
            Entry("transformers", "torch_decode", "shipped"),
            Entry(COMPILED, "torch_decode", "compiled"),
        ],
    ),
]
SMALL = dict(
    rows=2,
    vocab_size=512,
    max_length=64,
    num_layers=1,
    num_heads=2,
    width=128,
    mlp_width=256,
    predictions=8,
    spans=3,
    cut=9,
    prompt=8,
    new_tokens=8,
    narrow=64,
    embed_width=128,
)


@dataclass(frozen=True)
class Row:
    """One line of the table: who does what."""

    work: Work
    entry: Entry

    @property
    def name(self) -> tuple[str, str]:
        return self.work.title, self.entry.name

    @property
    def tokens(self) -> int:
        """How many tokens one step reads, or one decoding writes."""
        work = self.work
        if work.kind == "decode":
            return work.rows * work.new_tokens
        targets = work.targets if work.model.startswith("t5") else 0
        return work.rows * (work.max_length + targets)

    def best(self, rates: dict[str, float], parameters: int) -> float:
        """The seconds that one step takes at the rate of the products, or of the memory."""
        if self.work.kind != "decode":
            return self.work.flops() / rates[MATRIX.name]
        return self.work.new_tokens * 2 * parameters / rates[MEMORY.name]  # 2 bytes each


def rows(small: bool) -> list[Row]:
    """All rows in their order: the rates, zoo, and then the peers."""
    works = [(reduced(work), entries) for work, entries in WORKS] if small else WORKS
    rated = replace(works[0][0], title="bfloat16, small" if small else "bfloat16")
    rates = [Row(rated, entry) for entry in (MATRIX, MEMORY)]
    found = [Row(work, entry) for work, entries in works for entry in entries]
    if small:
        rates[0] = Row(rated, replace(MATRIX, variant=""))
        found = [row for row in found if row.entry.name != COMPILED]
        found = [replace(row, entry=uncompiled(row.entry)) for row in found]
    return rates + sorted(found, key=lambda row: row.entry.name != "zoo")


def uncompiled(entry: Entry) -> Entry:
    """What torch does without compiling, which takes longer than all else in tiny sizes."""
    return replace(entry, variant="tuned") if entry.variant == BEST else entry


def reduced(work: Work) -> Work:
    """The same work in tiny sizes."""
    return replace(work, title=f"{work.title.split(',')[0]}, small", **SMALL)


def measure(row: Row, rates: dict[str, float], seconds: float) -> dict:
    """The record of a row; TimeoutError if it needs more seconds, RuntimeError if it fails."""
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        is_rate = row.entry.module == "matrix_rate"
        draws = row.entry.module in ("matrix_rate", "zoo_pretrain")  # and reads no weights
        model = scratch if draws else prepare(row.work, scratch / "model")
        try:
            left = ends - time.monotonic()
            racer = Competitor(row.entry, row.work, model, scratch, left)
            stack.callback(racer.close)
            racer.steps = 1 if row.work.kind == "decode" else STEPS
            for _ in range(TURNS):
                racer.take_turn()
        except (RuntimeError, OSError):
            if time.monotonic() > ends - 1:
                raise TimeoutError from None
            raise
    taken, facts = median(turn["wall"] for turn in racer.turns), racer.facts
    record = {"work": row.name[0], "competitor": row.name[1], "seconds": taken}
    record |= {name: facts[name] for name in ("device", "first_call", "versions") if name in facts}
    if is_rate:
        return record | {"rate": amount(row.entry.variant) / taken}
    share = row.best(rates, facts["parameters"]) / taken
    return record | {"tokens_per_second": row.tokens / taken, "share": share}


def run(results: Path, limit: float, small: bool) -> Iterator[str]:
    """Measure what is missing, and yield the lines of the table."""
    began, done = time.monotonic(), read(results)
    yield "| | | tokens/s | share | ms a step | first call, s |\n|---|---|--:|--:|--:|--:|"
    for row in rows(small):
        if row.name not in done:
            left = began + limit - time.monotonic()
            rates = {name: record["rate"] for (_, name), record in done.items() if "rate" in record}
            try:
                if left < LEAST_S:
                    raise TimeoutError
                record = measure(row, rates, left)
            except TimeoutError:
                yield f"stopped after {time.monotonic() - began:.0f} s: run this again to go on"
                return
            except (RuntimeError, subprocess.CalledProcessError) as problem:
                record = {"work": row.name[0], "competitor": row.name[1]}
                record["missing"] = str(problem).partition(":")[0]
                print(f"# {problem}")  # may name paths: printed, and kept nowhere
            when = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
            record |= {"commit": commit(), "when": when}
            with results.open("a") as file:
                file.write(json.dumps(record) + "\n")
            done[row.name] = record
        yield line(done[row.name])
    yield f"all measured: {results.name}"


def read(results: Path) -> dict[tuple[str, str], dict]:
    """The records by work and competitor."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {(r["work"], r["competitor"]): r for r in map(json.loads, lines)}


def line(record: dict) -> str:
    """A record as a line of the table."""
    names = f"| {record['work']} | {record['competitor']} | "
    if "missing" in record:
        return f"{names}{record['missing']} | | | |"
    milliseconds = f"{1000 * record['seconds']:.1f} | {record['first_call']:.1f} |"
    if "rate" in record:
        unit = "TFLOP/s" if record["competitor"] == MATRIX.name else "TB/s"
        return f"{names}{record['rate'] / 1e12:.3g} {unit}, {record['device']} | | {milliseconds}"
    return f"{names}{record['tokens_per_second']:,.0f} | {record['share']:.1%} | {milliseconds}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.speed gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="when to stop")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the records are")
    chosen = parser.parse_args(arguments)
    nvidia.check()
    if nvidia.is_used():
        start.set_gpu_flags()  # as the command line does; the competitors inherit them
    if chosen.small:  # compiles in half the time, and how fast it then is does not matter
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    for text in run(chosen.results, chosen.seconds, chosen.small):
        print(text, flush=True)
