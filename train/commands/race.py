"""`zoo race`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from train import unused
from train.commands.command import unescaped
from train.ranges import Natural, Positive, PositiveFloat


@dataclass(frozen=True)
class Race:
    """Train language models of all ages under one budget, and draw the results."""

    example: ClassVar[str] = "zoo race --text book.txt --minutes 60 --out runs/race"

    text: tuple[Path, ...] = ()
    """Text files (UTF-8, or .gz), one document per file. Default: a built-in corpus."""
    separator: str | None = None
    """The string between documents within a file, such as "\\n\\n". Default: one per file."""
    dev: tuple[Path, ...] = ()
    """Files to evaluate on. Default: the last part of the text is held out."""
    minutes: PositiveFloat = 30.0
    """Minutes of training, divided equally over the entrants. Compiling and evaluating come on
    top."""
    entrants: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Who takes part: ngram, fixed-window, rnn, lstm, awd-lstm, wavenet, bytenet, gpt, gpt2; and,
    in a panel of their own, bert and roberta. Default: all."""
    vocab_size: Positive = 4096
    """Pieces of the tokenizer that all share; 261: bytes."""
    prompt: str = "The"
    """What the samples begin with."""
    seed: Natural = 0
    """Random seed of weights, data order, masks, dropout and samples."""
    out: Path = Path("runs/race")
    """The folder to write: race.json, race.png, and a model folder for each entrant."""
    resume: bool = False
    """Continue the race in that folder: who has finished is not trained again."""
    overwrite: bool = False
    """Replace the race in that folder."""

    def run(self) -> None:
        """Run the race, then print its tables and where the files are."""
        from train.devices import malloc
        from train.racing import entrants, picture, race, table

        entrants.check(self.entrants)
        malloc.keep_freed_memory()
        source, dev = self._sources()
        raced = race.Race(
            source=source,
            dev=dev,
            out=self.out,
            entrants=tuple(dict.fromkeys(self.entrants)) or tuple(entrants.ENTRANTS),
            minutes=self.minutes,
            vocab_size=self.vocab_size,
            prompt=self.prompt,
            seed=self.seed,
        )
        record = race.run(raced, resume=self.resume, overwrite=self.overwrite)
        if len(record["results"]) < len(raced.entrants):
            print("stopped; continue with --resume")
            return
        print("\n".join(table.tables(record)))
        picture.draw(record, self.out / picture.FILE)
        print(f"\nresults: {self.out / race.FILE}\npicture: {self.out / picture.FILE}")

    def _sources(self):
        from train.data.sources import builtin, text

        if not (self.text or self.dev):
            unused.refuse(self, ["separator"], "is for text files")
        separator = unescaped(self.separator)
        source = text.files(self.text, separator) if self.text else builtin.read()
        return source, text.files(self.dev, separator) if self.dev else None
