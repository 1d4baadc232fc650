"""Pictures of what a model does."""

from pathlib import Path

INCH = 0.28  # of a word


def attention(found, out) -> list[Path]:
    """Draws attention, a row a layer and a column a head: what targets see of sources, to `out`.

    What the words of each side see of their own side goes to files beside it, named after the side.
    """
    out = Path(out)
    files = {
        out: [one for one in found if "encoder" not in one.name],
        out.with_stem(f"{out.stem}_encoder"): [one for one in found if "encoder" in one.name],
    }
    for file, layers in files.items():
        if layers:
            _draw(layers, file)
    return [file for file, layers in files.items() if layers]


def _draw(layers, file: Path) -> None:
    # Here, not above: it takes a second, which every start of a program would pay.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heads = max(len(one.weights) for one in layers)
    width = max(len(one.columns) for one in layers) * INCH + 1.2
    height = max(len(one.rows) for one in layers) * INCH + 1.2
    size = (width * heads, height * len(layers))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(layers), heads, squeeze=False)
    for row, one in zip(axes, layers, strict=True):
        for number, (axis, weights) in enumerate(zip(row, one.weights, strict=True)):
            axis.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
            axis.set_xticks(range(len(one.columns)), one.columns, rotation=90, fontsize=8)
            axis.set_yticks(range(len(one.rows)), one.rows, fontsize=8)
            title = one.name if len(one.weights) == 1 else f"{one.name}, head {number + 1}"
            axis.set_title(title, fontsize=8)
    figure.savefig(file)
