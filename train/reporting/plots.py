"""Plots of attention weights and of confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

from zoo.inference.translate import Attention, side

INCHES_PER_WORD = 0.28
DOTS_PER_INCH = 120
MAX_DOTS = 8000  # per side; Agg cannot draw more, so a larger picture gets fewer dots per inch
# The title, and the labels of the rows and of the columns.
TITLES = {
    "source": ("attention of the output to the source", "output", "source"),
    "encoder": ("attention within the source", "source", "source, attended to"),
    "decoder": ("attention within the output", "output", "output so far"),
}


def attention_files(out: str | Path) -> dict[str, Path]:
    """Return the files that `attention` may draw to, by side."""
    out = Path(out)
    out = out if out.suffix else out.with_suffix(".png")
    return {
        "source": out,
        "encoder": out.with_stem(f"{out.stem}_encoder"),
        "decoder": out.with_stem(f"{out.stem}_decoder"),
    }


def attention(layers: Sequence[Attention], out: str | Path, name: str = "") -> list[Path]:
    """Draw attention between words, one row per layer and one column per head.

    Every panel has its own color scale, from 0 to its largest weight, which is in its title.

    Args:
      layers: The result of `zoo.inference.translate.attention`.
      out: The file for the attention to the source. The attention within each side is drawn to
        files beside it, named after the side.
      name: The name of the model, for the titles.

    Returns:
      The files that were written.
    """
    drawn = []
    for part, file in attention_files(out).items():
        panels = [layer.by_word() for layer in layers if side(layer.name) == part]
        if panels:
            shown, *sides = TITLES[part]
            _draw(panels, file, title(name, shown), *sides)
            drawn.append(file)
    return drawn


def confusion(
    gold: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    out: str | Path,
    name: str = "",
) -> None:
    """Draw how often each label was predicted for each true label, one row per true label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    size = 3.2 + 0.45 * len(labels)
    figure = Figure(figsize=(size, size), dpi=DOTS_PER_INCH, layout="compressed")
    FigureCanvasAgg(figure)
    counts = confusion_matrix(gold, predicted, labels=list(labels))
    axes = figure.subplots()
    ConfusionMatrixDisplay(counts, display_labels=list(labels)).plot(
        ax=axes, cmap="Greys", colorbar=False, xticks_rotation="vertical", values_format=","
    )
    axes.set(xlabel="predicted label", ylabel="true label")
    axes.set_title(title(name, f"{len(gold):,} predictions"), fontsize=10)
    figure.savefig(out, bbox_inches="tight")


def title(name: str, shown: str) -> str:
    """Return the title of a plot: the name of the run, unless it is empty, and what is shown."""
    return f"{name}: {shown}" if name else shown[:1].upper() + shown[1:]


def _draw(
    layers: Sequence[Attention], file: Path, shown: str, row_label: str, column_label: str
) -> None:
    # Imported here because it takes a second, which would delay every command.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heads = max(len(layer.weights) for layer in layers)
    width = max(len(layer.columns) for layer in layers) * INCHES_PER_WORD + 1.2
    height = max(len(layer.rows) for layer in layers) * INCHES_PER_WORD + 1.2
    size = (max(width * heads, 4.0), height * len(layers) + 0.4)
    dots = min(DOTS_PER_INCH, MAX_DOTS / max(size))
    figure = Figure(figsize=size, dpi=dots, layout="compressed")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(layers), heads, squeeze=False)
    word = {"fontsize": 8, "parse_math": False}  # a word may have dollars
    for row, layer in zip(axes, layers, strict=True):
        for number, (axis, weights) in enumerate(zip(row, layer.weights, strict=True)):
            axis.imshow(weights, cmap="Greys", vmin=0, vmax=weights.max())
            axis.set_xticks(range(len(layer.columns)), layer.columns, rotation=90, **word)
            axis.set_yticks(range(len(layer.rows)), layer.rows, **word)
            panel = layer.name if len(layer.weights) == 1 else f"{layer.name}, head {number + 1}"
            axis.set_title(f"{panel}\nlargest weight {weights.max():.2f}", fontsize=8)
    figure.suptitle(shown, fontsize=10)
    for axis in axes[:, 0]:
        axis.set_ylabel(row_label, fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel(column_label, fontsize=8)
    figure.savefig(file, bbox_inches="tight")
