"""Inference: `zoo generate`, `translate`, `fill-mask`, `detect-replaced`, `classify` and others."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from train import unused
from train.commands.command import unescaped
from train.ranges import AnyFloat, Natural, NaturalFloat, Positive, PositiveFloat, Probability

SAMPLING = ("temperature", "top_k", "top_p", "seed")  # the options that a beam search lacks


@dataclass(frozen=True)
class Generate:
    """Generate text that continues a prompt."""

    example: ClassVar[str] = 'zoo generate runs/gpt2-tiny "The" --temperature 0.5'

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The model folder, ours or Hugging Face's, or a name on the Hub."""
    prompt: Annotated[str, tyro.conf.Positional] = ""
    """The text to continue; for an encoder-decoder, its input. Default: start a new document."""
    max_new_tokens: Positive = 100
    """Maximum number of new tokens."""
    temperature: NaturalFloat = 0.8
    """Below 1: more conservative. Above 1: more random. 0: greedy."""
    top_k: Natural = 0
    """Sample from this many of the most likely tokens. 0: from all."""
    top_p: Probability = 0.95
    """Sample from the most likely tokens that together have this probability."""
    seed: Natural = 0
    """Random seed for sampling."""
    beams: Natural = 0
    """Number of beams of a beam search. 0: sample."""
    min_new_tokens: Natural = 0
    """The text does not end before so many new tokens."""
    repetition_penalty: PositiveFloat = 1.0
    """Above 1: tokens that the text has already are less likely."""
    no_repeat_ngram_size: Natural = 0
    """No sequence of so many tokens occurs twice. 0: they may."""
    bad_words: tuple[str, ...] = ()
    """Words that are not generated, in this spelling."""
    suppress_tokens: tuple[Natural, ...] = ()
    """Ids of tokens that are not generated."""
    stop: tuple[str, ...] = ()
    r"""Strings that end the text, which is printed up to the first; `\n` is a line break."""
    num_return_sequences: Positive = 1
    """How many texts to generate; with beams, the best ones."""
    stream: bool = False
    """Print the text while it is generated."""

    def run(self) -> None:
        """Print the prompt and its continuation; for an encoder-decoder, only its output."""
        import zoo
        from zoo.contracts import EncoderDecoder

        self._check()
        loaded = zoo.load(self.folder)
        before = "" if isinstance(loaded.model, EncoderDecoder) else self.prompt
        options: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "max_new_tokens",
                "min_new_tokens",
                "repetition_penalty",
                "no_repeat_ngram_size",
                "bad_words",
                "suppress_tokens",
            )
        }
        count = self.num_return_sequences
        if self.beams:
            scored = zoo.beam_search(loaded, self.prompt, beams=self.beams, best=count, **options)
            print("\n".join(before + text for text, _ in scored))
            return
        options |= {name: getattr(self, name) for name in SAMPLING}
        options["stop"] = [text and unescaped(text) for text in self.stop]
        if self.stream:
            pieces = zoo.stream(loaded, self.prompt, **options)
            for piece in itertools.chain([before], pieces):
                print(piece, end="", flush=True)
            print()
        else:
            texts = zoo.generate(loaded, self.prompt, num_return_sequences=count, **options)
            print("\n".join(before + text for text in texts))

    def _check(self) -> None:
        """Raise ValueError for options that exclude each other."""
        if self.beams:
            unused.refuse(self, ("stop", "stream", *SAMPLING), "has no effect on a beam search")
        if self.temperature == 0:
            unused.refuse(self, ("top_k", "top_p", "seed"), "has no effect at temperature 0")
        if self.stream and self.num_return_sequences != 1:
            raise ValueError("--stream prints one text: leave out --num-return-sequences")


@dataclass(frozen=True)
class GenerateSound:
    """Generate sound with a model such as WaveNet, and write it to a file."""

    example: ClassVar[str] = "zoo generate-sound runs/wavenet-sound-tiny sample.wav --seconds 2"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The model folder, or a name on the Hub."""
    out: Annotated[Path, tyro.conf.Positional]
    """The .wav file to write."""
    overwrite: bool = False
    """Replace that file if it exists."""
    seconds: PositiveFloat = 1.0
    """The length of the sound."""
    temperature: NaturalFloat = 1.0
    """Below 1: more conservative. Above 1: more random. 0: greedy."""
    seed: Natural = 0
    """Random seed for sampling."""

    def run(self) -> None:
        """Write the file."""
        import zoo
        from zoo.checkpoints import existing
        from zoo.formats import wav

        existing.check_file(self.out, overwrite=self.overwrite)
        sound = zoo.generate_sound(
            zoo.load(self.folder), self.seconds, temperature=self.temperature, seed=self.seed
        )
        wav.write(self.out, *sound)
        print(f"sound: {self.out}")


@dataclass(frozen=True)
class Translate:
    """Translate a text, and optionally draw the attention weights."""

    example: ClassVar[str] = (
        'zoo translate runs/luong-tiny "23rd of November, 2026" --attention attention.png'
    )

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The model folder, ours or Hugging Face's, or a name on the Hub."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to translate."""
    beams: Positive = 4
    """Number of beams. 1: greedy search."""
    length_penalty: AnyFloat = 1.0
    """Above 1 favors longer translations, below 1 shorter ones."""
    best: Positive = 1
    """Number of translations to print, best first; if more than 1, with their scores."""
    attention: Path | None = None
    """Draw the attention weights to this file, such as attention.png."""
    overwrite: bool = False
    """Replace that picture if it exists."""

    def run(self) -> None:
        """Print the best translation, or the n best."""
        import zoo
        from train.reporting import attention_maps, pictures
        from zoo.checkpoints import existing

        for file in attention_maps.files(self.attention).values() if self.attention else ():
            existing.check_file(file, overwrite=self.overwrite)
            pictures.check_name(file)
        if self.beams == 1:
            unused.refuse(self, ["length_penalty"], "has no effect on a greedy search")
        translator, penalty = zoo.load(self.folder), self.length_penalty
        if self.best == 1:
            translation = zoo.translate(
                translator, self.text, beams=self.beams, length_penalty=penalty
            )
            print(translation)
        else:
            scored = zoo.beam_search(
                translator, self.text, best=self.best, beams=self.beams, length_penalty=penalty
            )
            translation, _ = scored[0]
            print("\n".join(f"{score:.3f}  {text}" for text, score in scored))
        if self.attention:
            layers = zoo.attention(translator, self.text, translation)
            sides = attention_maps.by_side([layer.by_word() for layer in layers])
            for file in attention_maps.draw(sides, self.attention, Path(self.folder).name):
                print(f"picture: {file}")


@dataclass(frozen=True)
class FillMask:
    """Predict the masked tokens of a text."""

    example: ClassVar[str] = 'zoo fill-mask runs/bert-tiny "Return the [MASK] of the list."'

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The model folder, ours or Hugging Face's, or a name on the Hub."""
    text: Annotated[str, tyro.conf.Positional]
    """The text, with [MASK] or the model's own mask token in it."""
    top: Positive = 5
    """Number of predictions to print per mask."""

    def run(self) -> None:
        """Print one line per mask: the most likely tokens and their probabilities."""
        import zoo

        for predictions in zoo.fill_mask(zoo.load(self.folder), self.text, self.top):
            print("  ".join(f"{token} {probability:.3f}" for token, probability in predictions))


@dataclass(frozen=True)
class DetectReplaced:
    """Detect replaced tokens in a text, with ELECTRA."""

    example: ClassVar[str] = (
        'zoo detect-replaced runs/electra-tiny "Return the banana of the list."'
    )

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The model folder, ours or Hugging Face's, or a name on the Hub."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to check."""

    def run(self) -> None:
        """Print one line per token: the probability of a replacement, starred if above 0.5."""
        import zoo

        for token, probability in zoo.detect_replaced(zoo.load(self.folder), self.text):
            print(f"{probability:.3f} {'*' if probability > 0.5 else ' '} {token}")


@dataclass(frozen=True)
class Classify:
    """Classify a text or a pair of texts, or predict a number for it."""

    example: ClassVar[str] = 'zoo classify runs/bert-tiny-classification "A charming film."'

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a fine-tuned model, ours or Hugging Face's, or a name on the Hub."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to classify."""
    pair: Annotated[str | None, tyro.conf.Positional] = None
    """The second text of a pair."""
    stride: Positive | None = None
    """Read a longer text in windows that begin so many tokens apart. Default: truncate it."""

    def run(self) -> None:
        """Print one line per label, most likely first, with its probability; or the number.

        The probabilities of a multi-label classifier are independent.
        """
        import zoo
        from train.finetuning import inputs

        inputs.check(self.folder, "texts" if self.pair is None else "pairs")
        prediction = zoo.classify(zoo.load(self.folder), self.text, self.pair, stride=self.stride)
        for label, value in prediction.items():
            print(f"{value:.3f} {label}")


@dataclass(frozen=True)
class Choose:
    """Choose the most plausible ending of a text."""

    example: ClassVar[str] = (
        'zoo choose runs/bert-tiny-multiple-choice "She opens the door and" "walks in." "melts."'
    )

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a fine-tuned model, ours or Hugging Face's, or a name on the Hub."""
    context: Annotated[str, tyro.conf.Positional]
    """The text, or a question."""
    endings: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="")]
    """Two or more endings, or answers."""

    def run(self) -> None:
        """Print one line per ending, most likely first, with its probability."""
        import zoo

        for ending, value in zoo.choose(zoo.load(self.folder), self.context, self.endings).items():
            print(f"{value:.3f} {ending}")


@dataclass(frozen=True)
class Tag:
    """Predict a tag for every word of a text."""

    example: ClassVar[str] = 'zoo tag runs/bert-tiny-tagging "Ada Lovelace was born in London."'

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a fine-tuned model, ours or Hugging Face's, or a name on the Hub."""
    text: Annotated[str, tyro.conf.Positional]
    """The text to tag; it is split into words at white space and punctuation."""
    entities: bool = False
    """Print the entities, with the first character of each and the one behind it."""

    def run(self) -> None:
        """Print one line per word: the probability of its tag, the word, the tag."""
        import zoo

        if self.entities:
            for entity in zoo.entities(zoo.load(self.folder), self.text):
                place = f"{entity.start}-{entity.end}"
                print(f"{entity.probability:.3f} {entity.label} {place} {entity.text}")
            return
        for word in zoo.tag(zoo.load(self.folder), self.text):
            print(f"{word.probability:.3f} {word.word} {word.label}")


@dataclass(frozen=True)
class Answer:
    """Find the answer to a question in a text."""

    example: ClassVar[str] = (
        'zoo answer runs/bert-tiny-question-answering "Who wrote it?" article.txt'
    )

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a fine-tuned model, ours or Hugging Face's, or a name on the Hub."""
    question: Annotated[str, tyro.conf.Positional]
    """The question to answer."""
    context: Annotated[str, tyro.conf.Positional]
    """The text that contains the answer, or a file with that text."""
    null_threshold: AnyFloat | None = None
    """Lower values give "no answer" more often. Default: that of the model, if it has one."""

    def run(self) -> None:
        """Print the answer, or "no answer" if the model was trained on such questions."""
        import zoo

        context = _content(self.context)
        loaded, threshold = zoo.load(self.folder), self.null_threshold
        best = zoo.answer(loaded, self.question, context, null_threshold=threshold)
        print(best.text or "no answer")


def _content(context: str) -> str:
    """Return the text of the file of this name, or the argument itself if there is none."""
    try:
        if not Path(context).is_file():
            return context
    except (OSError, ValueError):  # a text with more characters, or others, than names have
        return context
    try:
        return Path(context).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{context} is not UTF-8 at byte {error.start}") from None
