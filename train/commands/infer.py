"""What a model makes of a text: `zoo generate`, `translate`, `classify` and others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Generate:
    """Continue a text, or turn it into another with an encoder-decoder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    prompt: Annotated[str, tyro.conf.Positional] = ""
    """What to continue; nothing: a new document."""
    tokens: int = 100
    """How many tokens at most."""
    temperature: float = 0.8
    """Below 1 bolder, above 1 wilder; 0 always takes the likeliest."""
    top_k: int = 0
    """Choose among so many of the likeliest; 0: all."""
    top_p: float = 0.95
    """Choose among the likeliest that together have this probability."""
    seed: int = 0
    """Decides the draws."""
    beams: int = 0
    """Search with so many beams instead of drawing; 0: draw."""

    def run(self):
        """Prints the prompt and its continuation; of an encoder-decoder, what it makes of it."""
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
    """Write what a translator makes of a text, and draw what it looked at."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """What to translate."""
    beams: int = 4
    """Search with so many beams; 1 takes the likeliest word each time."""
    penalty: float = 1.0
    """What the number of words counts: above 1 for longer translations, below for shorter."""
    best: int = 1
    """How many translations to print, the best first; with more than one, their scores too."""
    attention: Path | None = None
    """A picture to draw, such as out.png: what every word of the translation looked at."""

    def run(self):
        """Prints the translation, or the best of those that were found."""
        from train.reporting import plots
        from zoo import load
        from zoo.inference import translate

        model = load(self.folder)
        settings = {"beams": self.beams, "penalty": self.penalty}
        if self.best == 1:
            (found,) = translate.translate(*model, [self.text], **settings)
            print(found)
        else:
            scored = translate.candidates(*model, self.text, self.best, **settings)
            found, _ = scored[0]
            print("\n".join(f"{score:.3f}  {text}" for text, score in scored))
        if self.attention:
            for file in plots.attention(
                translate.attention(*model, self.text, found), self.attention
            ):
                print(f"picture: {file}")


@dataclass(frozen=True)
class Fill:
    """Show what a masked model would put in the place of [MASK]."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """A text in which [MASK] (or the model's own mask token) stands for hidden words."""
    top: int = 5
    """How many words to show for each."""

    def run(self):
        """Prints the likeliest words for each mask, with their probabilities."""
        from zoo import load
        from zoo.inference import fill_mask

        for guesses in fill_mask.fill_mask(*load(self.folder), self.text, self.top):
            print("  ".join(f"{word} {probability:.3f}" for word, probability in guesses))


@dataclass(frozen=True)
class Detect:
    """Show which words of a text ELECTRA believes were replaced."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to look at."""

    def run(self):
        """Prints a line a piece of the text: its probability, and a star where it is above half."""
        from zoo import load
        from zoo.inference import detect_replaced

        for piece, chance in detect_replaced.detect_replaced(*load(self.folder), self.text):
            print(f"{chance:.3f} {'*' if chance > 0.5 else ' '} {piece}")


@dataclass(frozen=True)
class Classify:
    """Tell the class of a text or of a pair, or how similar a pair is."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A fine-tuned model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text."""
    pair: Annotated[str | None, tyro.conf.Positional] = None
    """The other text of a pair."""

    def run(self):
        """Prints every label with its probability, the likeliest first; or the number."""
        from zoo import load
        from zoo.inference import classify

        pairs = None if self.pair is None else [self.pair]
        (found,) = classify.classify(*load(self.folder), [self.text], pairs)
        for label, value in found.items():
            print(f"{value:.3f} {label}")


@dataclass(frozen=True)
class Tag:
    """Tell the tag of every word of a text."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A fine-tuned model folder, ours or Hugging Face's."""
    text: Annotated[str, tyro.conf.Positional]
    """The text, which is split at blanks and around punctuation."""

    def run(self):
        """Prints a line a word: the tag's probability, the word, the tag."""
        from zoo import load
        from zoo.inference import tag

        for found in tag.tag(*load(self.folder), self.text):
            print(f"{found.probability:.3f} {found.word} {found.label}")


@dataclass(frozen=True)
class Answer:
    """Find the answer to a question in a text."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A fine-tuned model folder, ours or Hugging Face's."""
    question: Annotated[str, tyro.conf.Positional]
    """What to answer."""
    context: Annotated[str, tyro.conf.Positional]
    """The text that has the answer, or the name of a file with it."""

    def run(self):
        """Prints the answer."""
        from zoo import load
        from zoo.inference import answer

        file = Path(self.context) if len(self.context) < 256 else None
        context = file.read_text("utf-8") if file and file.is_file() else self.context
        print(answer.answer(*load(self.folder), self.question, context).text)
