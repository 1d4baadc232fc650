"""A competitor's side of the race: a process that steps on request, and else sleeps.

It reads its work, the folder of the model and its variant from the command line and answers in
lines of JSON: first what it is (loss before training, or tokens decoded; parameters, versions,
seconds of the first call), then, for every number n that it reads, the seconds and CPU seconds of n
steps.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.speed.work import Work

# Runs n steps to their end; decoding returns the new tokens of the last, [rows][new_tokens].
Run = Callable[[int], list | None]


def serve(build: Callable[[Work, Path, str], tuple[dict, Run]]) -> None:
    """Runs one competitor until its input closes. `build` gives what it is and how it runs."""
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    work, folder, variant = Work(**json.loads(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
    facts, run = build(work, folder, variant)
    start = time.perf_counter()
    facts["tokens"] = run(1)
    facts["first_call"] = time.perf_counter() - start
    run(work.turn)
    answer(facts)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run(int(line))
        answer({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
