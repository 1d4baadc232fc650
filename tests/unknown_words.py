"""What models of word vectors know of rare, misspelt, inflected and new words.

python -m tests.unknown_words runs/word2vec-tiny runs/fasttext-tiny
python -m tests.unknown_words runs/fasttext-tiny --words beautifull unfriendliness --count 5

Prints a table: the nearest neighbors of each word, or "unknown" where a vocabulary does not have
it. A command, not a test.
"""

import argparse
from pathlib import Path

import zoo

WORDS = {
    "misspelt": ("goverment", "recieve", "definately", "beautifull"),
    "inflected": ("outplayed", "reappointing", "unfriendliest", "quickest"),
    "compound": ("footballplayer", "riverbanks", "midseason"),
    "rare": ("antidisestablishmentarianism", "circumnavigating", "microbiologist"),
    "new": ("blogging", "covid", "podcaster"),
}


def cell(index: zoo.WordIndex, word: str, count: int) -> str:
    """Return the neighbors of a word, marked if its vector is composed of n-grams."""
    try:
        words = ", ".join(other for other, _ in zoo.neighbors(index, word, count))
    except ValueError:
        return "unknown"
    return words if word in index.rows else f"{words} (composed)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--words", nargs="+", help="other words than the built-in list")
    parser.add_argument("--count", type=int, default=3, help="neighbors per word")
    arguments = parser.parse_args()
    indices = {path.name: zoo.word_index(zoo.load(path)) for path in arguments.folders}
    kinds = {"given": arguments.words} if arguments.words else WORDS
    print("| kind | word | " + " | ".join(indices) + " |")
    print("| --- | --- |" + " --- |" * len(indices))
    for kind, words in kinds.items():
        for word in words:
            cells = (cell(index, word, arguments.count) for index in indices.values())
            print(f"| {kind} | {word} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
