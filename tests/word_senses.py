"""How well vectors tell the senses of a word apart: CoarseWSD-20, by the nearest centroid.

python -m tests.word_senses runs/word2vec-tiny runs/bert-tiny --sentences 200

A sense is the mean of the vectors of a word in the sentences of the training split, and a test
sentence has the sense with the nearest mean, by cosine. Three vectors are compared:

- that of the word alone. It is the same in every sentence, so it says nothing: the best one can do
  is to predict the most frequent sense.
- for word vectors, the mean of the vectors of the other words of the sentence.
- for an encoder, the vector of the word in its context.

A command, not a test: it reads the data in $ZOO_DATA/wsd_coarsewsd20 (Loureiro et al. 2021,
https://arxiv.org/abs/2008.11608). Accuracy, and macro F1 because senses are not equally frequent.
"""

import argparse
import gzip
import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

import zoo
from train.metrics import tasks
from zoo.contracts import WordVectorModel

SHOWN = "bank"  # the word with columns of its own


class Sentence(NamedTuple):
    text: str
    position: int
    sense: int


Split = dict[str, list[Sentence]]  # by word


def read(folder: Path, split: str, most: int) -> Split:
    """Return up to `most` sentences of each word, drawn at random but always the same."""
    result = defaultdict(list)
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            # A few sentences have other white space than blanks, which shifts the words.
            if line["text"].split() == line["text"].split(" "):
                sentence = Sentence(line["text"], line["token_index"], line["label"])
                result[line["word"]].append(sentence)
    draw = random.Random(0)
    return {word: draw.sample(all, min(most, len(all))) for word, all in sorted(result.items())}


def most_frequent(train: Split, test: Split) -> dict[str, list[int]]:
    """Return the most frequent sense of each word, as the prediction for every sentence."""
    return {
        word: [Counter(sentence.sense for sentence in train[word]).most_common(1)[0][0]]
        * len(sentences)
        for word, sentences in test.items()
    }


def nearest(loaded: zoo.Loaded, train: Split, test: Split) -> dict[str, list[int]]:
    """Return the sense with the nearest centroid for every sentence."""
    predictions = {}
    for word in test:
        x_ND, y_MD = (vectors(loaded, split[word]) for split in (train, test))
        senses = np.array([sentence.sense for sentence in train[word]])
        names = np.unique(senses)
        centroids = unit(np.stack([x_ND[senses == name].mean(0) for name in names]))
        predictions[word] = names[(y_MD @ centroids.T).argmax(1)].tolist()
    return predictions


def vectors(loaded: zoo.Loaded, sentences: list[Sentence]) -> np.ndarray:
    """Return a unit vector per sentence: of the other words, or of the word in its context."""
    words = zoo.embed_words(loaded, [sentence.text for sentence in sentences])
    if isinstance(loaded.model, WordVectorModel):
        others = (np.delete(x, s.position, 0) for x, s in zip(words, sentences, strict=True))
        return unit(np.stack([x_WD.sum(0) for x_WD in others]))
    return unit(np.stack([x[s.position] for x, s in zip(words, sentences, strict=True)]))


def unit(x_ND: np.ndarray) -> np.ndarray:
    return x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-12)


def row(name: str, predictions: dict[str, list[int]], test: Split) -> str:
    scores = {}
    for word, predicted in predictions.items():
        gold = [sentence.sense for sentence in test[word]]
        names = [str(sense) for sense in range(1 + max(gold + predicted))]
        scores[word] = tasks.classification(gold, predicted, names)
    cells = [
        value
        for metric in ("accuracy", "macro_f1")
        for value in (scores[SHOWN][metric], np.mean([score[metric] for score in scores.values()]))
    ]
    return f"| {name} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--sentences", type=int, default=200, help="most per word and split")
    arguments = parser.parse_args()
    if "ZOO_DATA" not in os.environ:
        parser.error("ZOO_DATA must name the folder that has wsd_coarsewsd20")
    folder = Path(os.environ["ZOO_DATA"], "wsd_coarsewsd20")
    train, test = (read(folder, split, arguments.sentences) for split in ("train", "test"))
    print(f"| vector | accuracy, {SHOWN} | all {len(test)} words | macro F1, {SHOWN} | all |")
    print("| --- | --- | --- | --- | --- |")
    print(row("any, of the word alone (most frequent sense)", most_frequent(train, test), test))
    for path in arguments.folders:
        loaded = zoo.load(path)
        is_static = isinstance(loaded.model, WordVectorModel)
        kind = "of the other words" if is_static else "of the word in its context"
        print(row(f"{path.name}, {kind}", nearest(loaded, train, test), test), flush=True)


if __name__ == "__main__":
    main()
