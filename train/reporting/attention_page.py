"""Attention weights as one HTML page in which one can point at a word; it loads nothing."""

import html
import json
from importlib import resources
from pathlib import Path

from train.reporting.attention_maps import WORDS, Layer
from train.reporting.pictures import title
from zoo.inference.attention import Side

TEMPLATE = resources.files("train.reporting") / "attention_page.html"
# Weights of a page, of some three bytes each: a browser opens 12 MB at once.
MAX_WEIGHTS = 4_000_000
DIGITS = 1000  # weights are written in thousandths


def write(sides: dict[Side, list[Layer]], out: str | Path, name: str = "") -> None:
    """Write the page of the layers of each side.

    Raises:
      ValueError: If a page cannot show so many weights.
    """
    count = sum(layer.attention.weights.size for layers in sides.values() for layer in layers)
    if count > MAX_WEIGHTS:
        maps = sum(len(layer.heads) for layers in sides.values() for layer in layers)
        words = max(len(layer.attention.rows) for layers in sides.values() for layer in layers)
        hint = "choose --layer and --head, or shorten" if maps > 1 else "shorten"
        raise ValueError(
            f"a page of {maps} heads shows at most {int((MAX_WEIGHTS / maps) ** 0.5)} words, and "
            f"the text has {words}: {hint} the text"
        )
    content = [_side(side, layers) for side, layers in sides.items()]
    # A script ends at the next "</", even within a string.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    heading = title(name, "attention")
    page = TEMPLATE.read_text("utf-8")
    page = page.replace("TITLE", html.escape(heading), 2).replace("[/* DATA */]", data, 1)
    Path(out).write_text(page, "utf-8", errors="replace")


def _side(side: Side, layers: list[Layer]) -> dict:
    first, words = layers[0].attention, WORDS[side]
    return {
        "title": words.title,
        "labels": [words.rows, words.columns],
        "rows": first.rows,
        "columns": first.columns,
        "layers": [
            {
                "name": layer.name,
                "heads": list(layer.heads),
                "weights": (layer.attention.weights * DIGITS).round().astype(int).tolist(),
            }
            for layer in layers
        ],
    }
