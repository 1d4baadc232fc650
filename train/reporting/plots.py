"""A plot of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

from train.reporting.pictures import label, picture, title


def confusion(
    gold: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    out: str | Path,
    name: str = "",
) -> None:
    """Draw how often each label was predicted for each true label, one row per true label."""
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    size = 3.6 + 0.5 * len(labels)
    counts = confusion_matrix(gold, predicted, labels=list(labels))
    with picture(out, size, size) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        ConfusionMatrixDisplay(counts, display_labels=list(map(label, labels))).plot(
            ax=axes, cmap="Blues", colorbar=False, xticks_rotation="vertical", values_format=","
        )
        axes.set(xlabel="predicted label", ylabel="true label")
        axes.set_title(title(name, f"{len(gold):,} predictions"), parse_math=False)
