"""The tables of a race on the terminal: compute and bits per byte, perplexity per word, samples."""

from collections.abc import Mapping
from typing import Any

from train.racing.race import panels

COLUMNS = ("parameters", "tokens", "FLOP", "seconds", "bits per byte")


def tables(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of all tables of a race."""
    lines: list[str] = []
    for panel, own in panels(dict(record)):
        key = "bits_per_byte" if panel == "causal" else "pseudo_bits_per_byte"
        title = "language models" if panel == "causal" else "masked models: pseudo bits per byte"
        lines += ["", title, _row("", *COLUMNS)]
        for name, result in own.items():
            lines.append(
                _row(
                    name,
                    f"{result['parameters']:,}",
                    f"{result['tokens']:,}",
                    f"{result['flop']:.3g}",
                    f"{result['seconds']:,.1f}",
                    f"{result[key]:.3f}",
                )
            )
    lines += _words(record)
    lines += ["", "samples"]
    for _, own in panels(dict(record)):
        for name, result in own.items():
            lines.append(f"{name:14} {' '.join(result['sample'].split())}")
    return lines


def _words(record: Mapping[str, Any]) -> list[str]:
    """Return the second table: perplexity per word, which is bits per byte over words."""
    found = {
        name: result["perplexity_per_word"]
        for name, result in record["results"].items()
        if "perplexity_per_word" in result
    }
    if not found:
        return []
    text = record["text"]
    size = text["bytes"] / max(text["words"], 1)
    if record.get("word_ngram"):
        found["5-gram of words"] = record["word_ngram"]["perplexity_per_word"]
    lines = ["", f"perplexity per word: 2 ** (bits per byte x {size:.2f} bytes per word)"]
    ranked = sorted(found.items(), key=lambda item: item[1])
    return [*lines, *(f"{name:16} {value:>12,.1f}" for name, value in ranked)]


def _row(name: str, *cells: str) -> str:
    return f"{name:14}" + "".join(f" {cell:>13}" for cell in cells)
