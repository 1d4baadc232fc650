"""A copying task: which models see content that is far back?

A document has 8 random letters of 16, then dots up to `--distance` and a mark, then the same
letters. A model without them in reach can only guess, at ln 16 = 2.77 nats per letter.

    python -m tests.copying write --distance 100 --out FOLDER       # train.txt and dev.txt
    zoo pretrain RECIPE --text FOLDER/train.txt --dev FOLDER/dev.txt --separator "\\n" ...
    python -m tests.copying measure --text FOLDER/dev.txt MODEL ...
"""

import argparse
from pathlib import Path

import numpy as np

import zoo

LETTERS, SYMBOLS = 8, "abcdefghijklmnop"


def documents(count: int, distance: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    filler = "." * (distance - LETTERS - 1) + "="
    texts = ["".join(draw.choice(list(SYMBOLS), LETTERS)) for _ in range(count)]
    return [text + filler + text for text in texts]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    write.add_argument("--distance", type=int, required=True)
    write.add_argument("--out", type=Path, required=True)
    measure = commands.add_parser("measure")
    measure.add_argument("--text", type=Path, required=True)
    measure.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "write":
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, count, seed in (("train", 8000, 0), ("dev", 64, 1)):
            lines = documents(count, arguments.distance, seed)
            (arguments.out / f"{name}.txt").write_text("\n".join(lines), "utf-8")
        return
    texts = arguments.text.read_text("utf-8").splitlines()
    for folder in arguments.models:
        scores = zoo.score(zoo.load(folder), texts)
        nats = -np.mean([score.log_probabilities[-LETTERS:] for score in scores])
        print(f"{nats:.4f} nats per copied letter  {folder}")


if __name__ == "__main__":
    main()
