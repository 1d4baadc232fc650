"""Inference: `zoo generate`, `translate`, `fill`, `detect`, `classify`, `tag` and `answer`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Generate:
    """Continue a text, or generate one from it with an encoder-decoder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    prompt: Annotated[str, tyro.conf.Positional] = ""
    """The text to continue. None: a new document."""
    tokens: int = 100
    """Maximum number of new tokens."""
    temperature: float = 0.8
    """Below 1: more conservative. Above 1: more random. 0: greedy."""
    top_k: int = 0
    """Sample from this many of the likeliest tokens; 0: all."""
    top_p: float = 0.95
    """Sample from the likeliest tokens that together have this probability."""
    seed: int = 0
    """The random seed of sampling."""
    beams: int = 0
    """Number of beams of a beam search; 0: sample."""

    def run(self) -> None:
        """Print the prompt and its continuation; of an encoder-decoder, its output alone."""
        from zoo import load
        from zoo.contracts import EncoderDecoder
        from zoo.inference import generate

        model, params, tokenizer = load(self.folder)
        settings = {"beams": self.beams}
        if not self.beams:
            names = ("temperature", "top_k", "top_p", "seed")
            settings = {name: getattr(self, name) for name in names}
        new = generate.text(model, params, tokenizer, self.prompt, length=self.tokens, **settings)
        print(new if isinstance(model, EncoderDecoder) else self.prompt + new)


@dataclass(frozen=True)
class Translate:
    """Translate a text, and draw the attention of the translator."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to translate."""
    beams: int = 4
    """Number of beams; 1: greedy search."""
    penalty: float = 1.0
    """Length penalty: above 1 for longer translations, below 1 for shorter ones."""
    best: int = 1
    """How many translations to print, the best first; with more than one, their scores too."""
    attention: Path | None = None
    """A picture to draw, such as out.png: what every token of the translation attends to."""

    def run(self) -> None:
        """Print the translation, or the best few of the beam search."""
        from train.reporting import plots
        from zoo import load
        from zoo.inference import translate

        model = load(self.folder)
        if self.best == 1:
            (translation,) = translate.translate(
                *model, [self.text], beams=self.beams, penalty=self.penalty
            )
            print(translation)
        else:
            scored = translate.candidates(
                *model, self.text, self.best, beams=self.beams, penalty=self.penalty
            )
            translation, _ = scored[0]
            print("\n".join(f"{score:.3f}  {text}" for text, score in scored))
        if self.attention:
            for file in plots.attention(
                translate.attention(*model, self.text, translation), self.attention
            ):
                print(f"picture: {file}")


@dataclass(frozen=True)
class Fill:
    """Show what a masked language model predicts for [MASK]."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """A text with [MASK] (or the model's own mask token) in place of words."""
    top: int = 5
    """How many predictions to show for each."""

    def run(self) -> None:
        """Print the likeliest tokens for each mask, with their probabilities."""
        from zoo import load
        from zoo.inference import fill_mask

        for predictions in fill_mask.fill_mask(*load(self.folder), self.text, self.top):
            print("  ".join(f"{token} {probability:.3f}" for token, probability in predictions))


@dataclass(frozen=True)
class Detect:
    """Show which tokens of a text ELECTRA predicts to be replaced."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to check."""

    def run(self) -> None:
        """Print one line per token: its probability, and a star if that is above one half."""
        from zoo import load
        from zoo.inference import detect_replaced

        for token, probability in detect_replaced.detect_replaced(*load(self.folder), self.text):
            print(f"{probability:.3f} {'*' if probability > 0.5 else ' '} {token}")


@dataclass(frozen=True)
class Classify:
    """Predict the class of a text or a pair of texts, or a number for it."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A fine-tuned model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text."""
    pair: Annotated[str | None, tyro.conf.Positional] = None
    """The other text of a pair."""

    def run(self) -> None:
        """Print every label with its probability, the likeliest first; or the number."""
        from zoo import load
        from zoo.inference import classify

        pairs = None if self.pair is None else [self.pair]
        (prediction,) = classify.classify(*load(self.folder), [self.text], pairs)
        for label, value in prediction.items():
            print(f"{value:.3f} {label}")


@dataclass(frozen=True)
class Tag:
    """Predict the tag of every word of a text."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A fine-tuned model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text; it is split into words at blanks and around punctuation."""

    def run(self) -> None:
        """Print one line per word: the probability of its tag, the word, the tag."""
        from zoo import load
        from zoo.inference import tag

        for word in tag.tag(*load(self.folder), self.text):
            print(f"{word.probability:.3f} {word.word} {word.label}")


@dataclass(frozen=True)
class Answer:
    """Find the answer to a question in a text."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A fine-tuned model folder, ours or Hugging Face's."""
    question: Annotated[str, tyro.conf.Positional]
    """The question to answer."""
    context: Annotated[str, tyro.conf.Positional]
    """The text that has the answer, or the name of a file with it."""

    def run(self) -> None:
        """Print the answer."""
        from zoo import load
        from zoo.inference import answer

        file = Path(self.context) if len(self.context) < 256 else None
        context = file.read_text("utf-8") if file and file.is_file() else self.context
        print(answer.answer(*load(self.folder), self.question, context).text)
