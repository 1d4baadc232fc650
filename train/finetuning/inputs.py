"""Whether a classifier reads texts or pairs of texts, as its model.json records."""

from collections.abc import Sequence
from pathlib import Path

from zoo.checkpoints.load import trained_on


def kind(examples: Sequence) -> str | None:
    """Return "texts" or "pairs", what examples of a classifier are; None for other tasks."""
    pairs = {example.pair is not None for example in examples if hasattr(example, "pair")}
    if not pairs:
        return None
    return "pairs" if True in pairs else "texts"


def check(folder: str | Path, given: str | None) -> None:
    """Raise ValueError if a model was fine-tuned on texts and is given pairs, or the reverse.

    Args:
      folder: The folder of the model; one without a record is not checked.
      given: "texts", "pairs", or None for what is neither.
    """
    trained = trained_on(folder)
    if given is not None and trained not in (None, given):
        advice = "leave out" if given == "pairs" else "give"
        raise ValueError(
            f"{folder} was fine-tuned on {trained}, not on {given}: {advice} the second text"
        )
