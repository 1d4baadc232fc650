"""Pictures of what a model does."""

from collections.abc import Sequence
from pathlib import Path

from zoo.inference.translate import side

INCH = 0.28  # of a word
DOTS = 120  # of an inch
MOST = 8000  # dots of a side: more than Agg draws, or memory holds, is drawn smaller


def attention(found, out) -> list[Path]:
    """Draws attention, a row a layer and a column a head: what targets see of sources, to `out`.

    What the words of each side see of their own side goes to files beside it, named after the side.
    """
    out = Path(out)
    out = out if out.suffix else out.with_suffix(".png")
    files = {
        "source": out,
        "encoder": out.with_stem(f"{out.stem}_encoder"),
        "decoder": out.with_stem(f"{out.stem}_decoder"),
    }
    layers = {name: [one for one in found if side(one.name) == name] for name in files}
    drawn = [name for name in files if layers[name]]
    for name in drawn:
        _draw(layers[name], files[name])
    return [files[name] for name in drawn]


def confusion(gold: Sequence[str], found: Sequence[str], labels: Sequence[str], out) -> None:
    """Draws how often each label was told for each, a row a true label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    size = 2.5 + 0.45 * len(labels)
    figure = Figure(figsize=(size, size), dpi=DOTS, layout="compressed")
    FigureCanvasAgg(figure)
    counts = confusion_matrix(gold, found, labels=list(labels))
    ConfusionMatrixDisplay(counts, display_labels=list(labels)).plot(
        ax=figure.subplots(), cmap="Greys", colorbar=False, xticks_rotation="vertical"
    )
    figure.savefig(out)


def _draw(layers, file: Path) -> None:
    # Here, not above: it takes a second, which every start of a program would pay.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heads = max(len(one.weights) for one in layers)
    width = max(len(one.columns) for one in layers) * INCH + 1.2
    height = max(len(one.rows) for one in layers) * INCH + 1.2
    size = (width * heads, height * len(layers))
    figure = Figure(figsize=size, dpi=min(DOTS, MOST / max(size)), layout="compressed")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(layers), heads, squeeze=False)
    word = {"fontsize": 8, "parse_math": False}  # a word may have dollars
    for row, one in zip(axes, layers, strict=True):
        for number, (axis, weights) in enumerate(zip(row, one.weights, strict=True)):
            axis.imshow(weights, cmap="Greys", vmin=0, vmax=1)
            axis.set_xticks(range(len(one.columns)), one.columns, rotation=90, **word)
            axis.set_yticks(range(len(one.rows)), one.rows, **word)
            title = one.name if len(one.weights) == 1 else f"{one.name}, head {number + 1}"
            axis.set_title(title, fontsize=8)
    figure.savefig(file, bbox_inches="tight")
