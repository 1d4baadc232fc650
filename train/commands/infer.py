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
        import zoo
        from zoo.contracts import EncoderDecoder

        loaded = zoo.load(self.folder)
        if self.beams:
            settings = {"max_new_tokens": self.tokens, "beams": self.beams}
            ((new, _),) = zoo.beam_search(loaded, self.prompt, **settings)
        else:
            names = ("temperature", "top_k", "top_p", "seed")
            settings = {name: getattr(self, name) for name in names}
            new = zoo.generate(loaded, self.prompt, max_new_tokens=self.tokens, **settings)
        print(new if isinstance(loaded.model, EncoderDecoder) else self.prompt + new)


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
        import zoo
        from train.reporting import plots
        from zoo.inference.translate import attention

        translator = zoo.load(self.folder)
        if self.best == 1:
            translation = zoo.translate(
                translator, self.text, beams=self.beams, length_penalty=self.penalty
            )
            print(translation)
        else:
            scored = zoo.beam_search(
                translator,
                self.text,
                best=self.best,
                beams=self.beams,
                length_penalty=self.penalty,
            )
            translation, _ = scored[0]
            print("\n".join(f"{score:.3f}  {text}" for text, score in scored))
        if self.attention:
            weights = attention(translator, self.text, translation)
            for file in plots.attention(weights, self.attention, self.folder.name):
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
        import zoo

        for predictions in zoo.fill_mask(zoo.load(self.folder), self.text, self.top):
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
        import zoo

        for token, probability in zoo.detect_replaced(zoo.load(self.folder), self.text):
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
        import zoo

        prediction = zoo.classify(zoo.load(self.folder), self.text, self.pair)
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
        import zoo

        for word in zoo.tag(zoo.load(self.folder), self.text):
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
        import zoo

        file = Path(self.context) if len(self.context) < 256 else None
        context = file.read_text("utf-8") if file and file.is_file() else self.context
        print(zoo.answer(zoo.load(self.folder), self.question, context).text)
