"""`zoo score`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from train import unused
from train.ranges import AnyFloat, Natural
from zoo.inference.pseudo_likelihood import Masked


@dataclass(frozen=True)
class Score:
    """Compute the probability of a text, or rank candidate texts."""

    example: ClassVar[str] = 'zoo score runs/gpt2-tiny "The return value is None." --top 5'

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a language model, ours or Hugging Face's, or a name on the Hub, or an ARPA
    file."""
    text: Annotated[str | None, tyro.conf.Positional] = None
    """The text to score."""
    top: Natural = 0
    """Also print so many of the most probable tokens after the text."""
    candidates: Path | None = None
    """Rank the candidates of a translator or a recognizer instead: a file with one text per line
    and empty lines between sources, or with lines "source ||| text ||| features ||| score"."""
    weight: AnyFloat = 1.0
    """With --candidates: the factor of the log probability, which is added to the score of a
    candidate."""
    masked: Masked = "word"
    """For masked models: with a token, mask the rest of its word too, or only the token."""

    def run(self) -> None:
        """Print a line per token, and the sum; or the candidates, best first."""
        import math

        import zoo
        from train.data.examples.candidates import rank, read_candidates
        from zoo.contracts import MaskFiller

        if (self.text is None) == (self.candidates is None):
            raise ValueError("give a text to score or --candidates, one of them")
        if self.candidates:
            unused.refuse(self, ["top"], "has no effect with --candidates")
        else:
            unused.refuse(self, ["weight"], "is for --candidates")
        loaded = zoo.load(self.folder)
        if not isinstance(loaded.model, MaskFiller):
            unused.refuse(self, ["masked"], "is for masked models")
        if self.candidates:
            groups = read_candidates(self.candidates)
            texts = [candidate.text for group in groups for candidate in group]
            totals = iter([score.total for score in zoo.score(loaded, texts, masked=self.masked)])
            for number, group in enumerate(groups):
                print(end="\n" if number else "")
                for value, candidate in rank(group, [next(totals) for _ in group], self.weight):
                    print(f"{value:.4f} {candidate.text}")
            return
        score = zoo.score(loaded, self.text or "", masked=self.masked)
        for token, value in zip(*score, strict=True):
            print(f"{value:9.4f} {token}")
        mean = score.total / len(score.tokens)
        print(f"{score.total:9.4f} in all, perplexity {math.exp(-mean):.4g} per token")
        if self.top:
            print("next:")
            for token, probability in zoo.next_tokens(loaded, self.text or "", self.top):
                print(f"{probability:9.4f} {token}")
