"""Vectors of words and texts: `zoo neighbors`, `analogy`, `similarity`, `embed` and `map`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from train.ranges import Natural, Positive, PositiveFloat

NO_HINT = tyro.conf.arg(help_behavior_hint="")


@dataclass(frozen=True)
class Neighbors:
    """Print the words nearest to a word."""

    example: ClassVar[str] = "zoo neighbors runs/word2vec-tiny bank"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder or file of word vectors, or a name on the Hub."""
    word: Annotated[str, tyro.conf.Positional]
    """The word; fastText supports any, other models those of their vocabularies."""
    count: Positive = 10
    """Number of words to print."""

    def run(self) -> None:
        """Print one line per word, the nearest first, with the cosine."""
        import zoo

        _print(zoo.neighbors(zoo.load(self.folder), self.word, self.count))


@dataclass(frozen=True)
class Analogy:
    """Solve an analogy, such as man is to king as woman is to queen."""

    example: ClassVar[str] = "zoo analogy runs/word2vec-tiny man king woman"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder or file of word vectors, or a name on the Hub."""
    a: Annotated[str, tyro.conf.Positional]
    """The first word, such as man."""
    b: Annotated[str, tyro.conf.Positional]
    """The second word, such as king."""
    c: Annotated[str, tyro.conf.Positional]
    """The third word, such as woman."""
    count: Positive = 1
    """Number of words to print."""

    def run(self) -> None:
        """Print the words nearest to b - a + c, with the cosine."""
        import zoo

        _print(zoo.analogy(zoo.load(self.folder), self.a, self.b, self.c, self.count))


@dataclass(frozen=True)
class Similarity:
    """Compare two words, or the pairs of words of a file with human scores."""

    example: ClassVar[str] = "zoo similarity runs/word2vec-tiny bank river"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder or file of word vectors, or a name on the Hub."""
    words: Annotated[tuple[str, ...], tyro.conf.Positional, NO_HINT] = ()
    """Two words."""
    data: Path | None = None
    """A file of lines with two words and a score of humans, with tabs between, such as
    EN-WS-353-ALL.txt."""

    def run(self) -> None:
        """Print the cosine of two words, or the correlations of cosines and scores."""
        import zoo

        if self.data:
            if self.words:
                raise ValueError("zoo similarity takes two words or --data, not both")
            return evaluate(self.folder, self.data)
        if len(self.words) != 2:
            raise ValueError(
                f"zoo similarity takes two words, not {len(self.words)}, or a file with --data"
            )
        print(f"{zoo.similarity(zoo.load(self.folder), *self.words):.3f}")


@dataclass(frozen=True)
class Embed:
    """Compute one vector per text, from word vectors or from hidden states."""

    example: ClassVar[str] = 'zoo embed runs/bert-tiny "A text." "Another text." --out vectors.npy'

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a model of word vectors, or of one with an encoder, or a name on the Hub."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional, NO_HINT]
    """The texts."""
    pooling: Literal["mean", "first", "last", "max"] = "mean"
    """How the vectors of the tokens become one vector."""
    layer: Natural | Literal["mix"] | None = None
    """The block whose hidden states are pooled; 0: the embeddings; mix: the mix of all, which a
    tagger on ELMo has learned. Default: the last."""
    out: Path | None = None
    """Write the vectors here, as an array of NumPy [texts, width]. Default: print them."""
    overwrite: bool = False
    """Replace that file if it exists."""

    def run(self) -> None:
        """Print one line per text, its vector; or write all to a file."""
        import numpy as np

        import zoo
        from zoo.checkpoints import existing

        if self.out and self.out.suffix != ".npy":
            raise ValueError(f"vectors are written as .npy, not as {self.out.name}")
        if self.out:
            existing.check_file(self.out, overwrite=self.overwrite)
        x_ND = zoo.embed(zoo.load(self.folder), self.texts, self.pooling, self.layer)
        if self.out:
            np.save(self.out, x_ND)
            print(f"vectors: {self.out}")
        else:
            for x_D in x_ND:
                print(" ".join(f"{value:.6g}" for value in x_D))


@dataclass(frozen=True)
class Map:
    """Draw a map of words, in which near words have similar vectors."""

    example: ClassVar[str] = "zoo map runs/word2vec-tiny bank river money water --out map.png"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder or file of word vectors, or a name on the Hub."""
    words: Annotated[tuple[str, ...], tyro.conf.Positional, NO_HINT] = ()
    """The words. Default: the 100 most frequent."""
    out: Path = Path("map.png")
    """The picture to write: .png, .svg or .pdf; or .html, an interactive page (needs plotly)."""
    overwrite: bool = False
    """Replace that file if it exists."""
    perplexity: PositiveFloat | None = None
    """About how many neighbors of a word t-SNE keeps near; less than the number of words. Default:
    30, or a third of the other words if that is less."""

    def run(self) -> None:
        """Draw the words by PCA and by t-SNE, from vectors of length 1."""
        import zoo
        from train.reporting import word_map
        from zoo.checkpoints import existing
        from zoo.inference.word_vectors import most_frequent_words, unit_vectors

        existing.check_file(self.out, overwrite=self.overwrite)
        loaded = zoo.load(self.folder)
        words = list(dict.fromkeys(self.words)) or most_frequent_words(loaded, 100)
        word_map.draw(
            words, unit_vectors(loaded, words), self.out, Path(self.folder).name, self.perplexity
        )
        print(f"picture: {self.out}")


def evaluate(folder: str | Path, data: Path) -> None:
    """Print the accuracy on analogies, or the correlations with scores, whichever a file has."""
    import zoo
    from train.metrics import word_vectors

    index = zoo.word_index(zoo.load(folder))
    if not word_vectors.has_sections(data):
        result = word_vectors.similarity(index, data)
        print(f"spearman: {result.spearman:.4f}")
        print(f"pearson: {result.pearson:.4f}")
        print(f"pairs: {result.pairs:,}, left out for unknown words: {result.skipped:,}")
        return
    for name, section in word_vectors.analogies(index, data).items():
        print(
            f"{name}: {section.fraction:.4f} ({section.correct:,} of {section.questions:,}, left "
            f"out for unknown words: {section.skipped:,})"
        )


def _print(words: list[tuple[str, float]]) -> None:
    for word, cosine in words:
        print(f"{cosine:.3f} {word}")


def examples(folder: Path, words: int = 3, count: int = 5) -> list[str]:
    """Return lines with the neighbors of some words, which are neither frequent nor rare."""
    import zoo
    from zoo.inference.word_vectors import most_frequent_words

    index = zoo.word_index(zoo.load(folder))
    middle = most_frequent_words(index.loaded, len(index.words))[100:] or index.words
    lines = []
    for word in [word for word in middle if word.isalpha()][:words]:
        nearest = ", ".join(other for other, _ in zoo.neighbors(index, word, count))
        lines.append(f"neighbors of {word}: {nearest}")
    return lines
