"""`zoo attend`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from train import unused
from train.ranges import Positive


@dataclass(frozen=True)
class Attend:
    """Show what each word of a text attends to, as text, picture or page."""

    example: ClassVar[str] = 'zoo attend runs/bert-tiny "The cat sat." --html attention.html'

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a model with attention, ours or Hugging Face's, or a name on the Hub."""
    text: Annotated[str, tyro.conf.Positional]
    """The text; for an encoder-decoder, its source."""
    target: str | None = None
    """For an encoder-decoder: the output to attend from. Default: its own, by greedy search."""
    layer: Positive | None = None
    """One layer, counted from 1. Default: all."""
    head: Positive | None = None
    """One head, counted from 1. Default: all."""
    rollout: bool = False
    """Attention rollout instead: how much of each word reaches the last layer through all."""
    tokens: bool = False
    """Show tokens instead of words."""
    html: Path | None = None
    """Write a page in which you can point at a word, such as attention.html; it needs no server."""
    picture: Path | None = None
    """Draw the weights to this file, such as attention.png, with a row per layer and a column per
    head. The attention within the sides of an encoder-decoder is drawn to files beside it."""
    overwrite: bool = False
    """Replace these files if they exist."""

    def run(self) -> None:
        """Print the words that each word attends to most, and write the files."""
        import zoo
        from train.reporting import attention_maps, attention_page
        from zoo.inference.attention import attention_rollout

        self._check()
        loaded = zoo.load(self.folder)
        layers = zoo.attention(loaded, self.text, self.target)
        rolled = attention_rollout(layers)
        if self.rollout and not rolled:
            raise ValueError(
                f"{type(loaded.model).__name__} attends to its source only: leave out --rollout"
            )
        in_words = lambda maps: maps if self.tokens else [one.by_word() for one in maps]
        sides = attention_maps.by_side(in_words(rolled if self.rollout else layers))
        sides = attention_maps.choose(sides, self.layer, self.head)
        name = Path(self.folder).name
        if self.picture:
            written = attention_maps.draw(sides, self.picture, name)
        if self.html:
            attention_page.write(self._page(sides, in_words(rolled)), self.html, name)
        for side, own in sides.items():
            print(f"{attention_maps.WORDS[side].title}, {_average(own)}:")
            print("\n".join(attention_maps.lines(own)))
        for file in written if self.picture else ():
            print(f"picture: {file}")
        if self.html:
            print(f"page: {self.html}")

    def _check(self) -> None:
        """Raise ValueError for options that exclude each other, and for files that exist."""
        from train.reporting import attention_maps, pictures
        from zoo.checkpoints import existing

        if self.rollout:
            unused.refuse(self, ["layer", "head"], "has no effect with --rollout")
        if not self.picture and not self.html:
            unused.refuse(self, ["overwrite"], "is for --html and --picture")
        if self.html:
            if self.html.suffix not in (".html", ".htm"):
                raise ValueError(f"a page is written as .html, not as {self.html.name}")
            existing.check_file(self.html, overwrite=self.overwrite)
        for file in attention_maps.files(self.picture).values() if self.picture else ():
            pictures.check_name(file)
            existing.check_file(file, overwrite=self.overwrite)

    def _page(self, sides: dict, rolled: list) -> dict:
        """Return the maps of the page: the chosen ones, and the rollout behind all of them."""
        from train.reporting import attention_maps

        if self.rollout or self.layer or self.head:
            return sides
        rollouts = attention_maps.by_side(rolled)
        return {side: [*layers, *rollouts.get(side, [])] for side, layers in sides.items()}


def _average(layers: list) -> str:
    """Return what the lines are a mean of."""
    from zoo.inference.attention import ROLLOUT

    heads = sum(len(layer.heads) for layer in layers)
    if heads == 1:
        (layer,) = layers
        return layer.name if layer.name == ROLLOUT else f"{layer.name}, {layer.heads[0]}"
    return f"mean of {heads} heads of {len(layers)} layers"
