"""The vectors of "bank" in the two sentences of the lecture notes, and pairs of uses of a word.

python -m tests.bank runs/word2vec-tiny runs/elmo-tiny runs/flair-tiny runs/bert-tiny

The first column is the cosine of the two vectors: 1 for a model with one vector per word, less for
one whose vectors depend on the context. Since all vectors of some models are close to each other,
the second column compares "bank" with the same word in a third sentence, about money: a model of
contexts has that closer. With $ZOO_DATA, the third column is the accuracy on WiC (Pilehvar and
Camacho-Collados 2019, https://arxiv.org/abs/1808.09121): do two sentences use a word in one sense?
Its threshold is the best one on the first half of the pairs, and the second half is scored; half of
the pairs have one sense, so a single vector per word scores 50.

A command, not a test.
"""

import argparse
import gzip
import json
import os
from itertools import takewhile
from pathlib import Path

import numpy as np

import zoo

MONEY = "I deposited 100 EUR in the bank ."
RIVER = "She was enjoying the sunset on the left bank of the river ."
MORE_MONEY = "They paid the loan back to the bank ."


def cosine(x_D: np.ndarray, y_D: np.ndarray) -> float:
    return float(x_D @ y_D / max(np.linalg.norm(x_D) * np.linalg.norm(y_D), 1e-12))


def bank(loaded: zoo.Loaded) -> tuple[float, float]:
    """Return the cosines of "bank" by the river and in another sentence to that of money."""
    texts = [MONEY, RIVER, MORE_MONEY]
    vectors = zoo.embed_words(loaded, texts)
    money, river, more = (x[t.split().index("bank")] for x, t in zip(vectors, texts, strict=True))
    return cosine(money, river), cosine(money, more)


def position(words: list[str], target: str) -> int | None:
    """Return where a word or its nearest form is, by the longest common beginning."""
    pairs = [zip(word.lower(), target.lower(), strict=False) for word in words]
    common = [sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], each)) for each in pairs]
    best = int(np.argmax(common))
    return best if common[best] >= min(3, len(target)) else None


def words_in_context(loaded: zoo.Loaded, file: Path) -> float:
    """Return the accuracy on the second half of the pairs, of those whose word is found."""
    pairs = []
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            texts = [line["sentence1"], line["sentence2"]]
            at = [position(text.split(), line["word"]) for text in texts]
            if None not in at:
                pairs.append((texts, at, line["label"]))
    vectors = zoo.embed_words(loaded, [text for texts, _, _ in pairs for text in texts])
    scores = np.array(
        [
            cosine(vectors[2 * number][at[0]], vectors[2 * number + 1][at[1]])
            for number, (_, at, _) in enumerate(pairs)
        ]
    )
    same = np.array([label == 1 for _, _, label in pairs])
    half = len(pairs) // 2
    right = lambda threshold, part: ((scores[part] >= threshold) == same[part]).mean()
    threshold = max(scores[:half], key=lambda score: right(score, slice(half)))
    return float(right(threshold, slice(half, None)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    data = (
        Path(os.environ["ZOO_DATA"], "wsd_wic", "train.jsonl.gz")
        if "ZOO_DATA" in os.environ
        else None
    )
    print("| model | river, money | money, money | WiC, % |\n|---|--:|--:|--:|")
    for folder in folders:
        loaded = zoo.load(folder)
        river, more = bank(loaded)
        accuracy = f"{100 * words_in_context(loaded, data):.1f}" if data else ""
        print(f"| {folder.name} | {river:.3f} | {more:.3f} | {accuracy} |", flush=True)


if __name__ == "__main__":
    main()
