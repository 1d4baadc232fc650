"""Speed beside peers.

    python -m tests.speed gpt2 bert decode --rounds 9     race, append to results.jsonl, print
    python -m tests.speed --table                         print the tables of the last results
    python -m tests.speed gpu                             one GPU, in nine minutes: gpu.py

RoBERTa, ALBERT, ELECTRA, DistilBERT, T5 and Marian's Transformer step by those names: roberta,
albert, electra, distilbert, t5, transformer; an LSTM as a language model by lstm, and alone by
recurrence; translate has the Transformer write. transformers and PyTorch take part where the extra
`parity` is installed; KerasHub, where it has the same work, in an environment that the first run
makes, in the folder that ZOO_CACHE names or in ~/.cache/zoo.
"""

import argparse
import os
import sys

from tests.speed import gpu
from tests.speed.contest import entries, race
from tests.speed.table import append, table, tables
from tests.speed.work import WORKS


def main() -> None:
    if sys.argv[1:2] == ["gpu"]:
        return gpu.main(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m tests.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("works", nargs="*", metavar="|".join(WORKS))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each competitor")
    parser.add_argument("--only", default="", help="competitors whose names contain this")
    parser.add_argument("--table", action="store_true", help="print, do not race")
    arguments = parser.parse_args()
    if arguments.table:
        print(tables())
        return
    # Not `choices`, which refuse that there is none, as with --table.
    if not arguments.works or set(arguments.works) - set(WORKS):
        parser.error(f"name what to race: {', '.join(WORKS)}")
    if hasattr(os, "sched_setaffinity"):  # JAX takes as many threads as it may use cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    say = lambda line: print(line, file=sys.stderr, flush=True)
    for name in arguments.works:
        for work in WORKS[name]:
            say(f"# {work.title}")
            chosen = [entry for entry in entries(work) if arguments.only in entry.name]
            record = race(work, chosen, arguments.rounds, say)
            append(record)
            print(table(record), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
