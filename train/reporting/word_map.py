"""Maps of words: their vectors in two dimensions, by PCA and by t-SNE.

N words  D width
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from train.reporting.pictures import label, picture, title

SUFFIXES = (".png", ".svg", ".pdf", ".html")
PERPLEXITY = 30.0  # the default of t-SNE, for more than 90 words
SEED = 0  # of t-SNE, so that a map is the same every time


def draw(
    words: Sequence[str],
    x_ND: np.ndarray,
    out: str | Path,
    name: str = "",
    perplexity: float | None = None,
) -> None:
    """Draw words as labelled points: PCA on the left, t-SNE on the right.

    PCA (principal components) shows the two directions in which the words differ most, and keeps
    distances as far as these go. t-SNE (van der Maaten and Hinton 2008) keeps near words near, but
    far distances mean nothing.

    Args:
      words: The words.
      x_ND: Their vectors.
      out: The file to write: .png, .svg, .pdf, or an interactive .html, which needs plotly.
      name: The name of the model, for the title.
      perplexity: About how many neighbors of a word t-SNE keeps near. None: 30, or a third of the
        other words if that is less.

    Raises:
      ValueError: If there are fewer than 3 words, or the perplexity is not less than their number,
        or the file has another ending, or plotly is missing.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise ValueError(f"a map is written as {', '.join(SUFFIXES)}, not as {out.name}")
    write = _write_page if out.suffix == ".html" else _write_picture
    panels = {"PCA": _pca(x_ND), "t-SNE": _t_sne(words, x_ND, perplexity)}
    write(words, panels, out, title(name, f"{len(words)} words"))


def _write_picture(
    words: Sequence[str], panels: Mapping[str, np.ndarray], out: Path, heading: str
) -> None:
    labels = {"textcoords": "offset points", "fontsize": 9, "parse_math": False}
    with picture(out, 14, 7) as figure:
        for axis, (method, x_N2) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            axis.scatter(*x_N2.T, s=8)
            for word, point in zip(words, x_N2, strict=True):
                axis.annotate(label(word), point, xytext=(3, 3), **labels)
            axis.margins(0.1)  # for labels at the right
            axis.set(title=method, xticks=[], yticks=[])
        figure.suptitle(heading, parse_math=False)


def _write_page(
    words: Sequence[str], panels: Mapping[str, np.ndarray], out: Path, heading: str
) -> None:
    try:
        from plotly.subplots import make_subplots
    except ImportError:
        raise ValueError(
            "an interactive map needs plotly: run `pip install plotly`, or write a .svg, in which "
            "a browser finds words"
        ) from None
    figure = make_subplots(1, len(panels), subplot_titles=list(panels))
    for column, x_N2 in enumerate(panels.values(), 1):
        x_N, y_N = x_N2.T
        figure.add_scatter(
            x=x_N, y=y_N, text=list(words), mode="markers+text", hoverinfo="text", col=column, row=1
        )
    figure.update_traces(textposition="top right", marker_color="black")
    figure.update_layout(title=heading, showlegend=False)
    figure.write_html(out)


def _pca(x_ND: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA

    return PCA(2, svd_solver="full").fit_transform(x_ND)


def _t_sne(words: Sequence[str], x_ND: np.ndarray, perplexity: float | None) -> np.ndarray:
    from sklearn.manifold import TSNE

    N = len(words)
    if N < 3:
        raise ValueError(f"a map needs at least 3 words, not {N}")
    if perplexity is None:
        perplexity = min(PERPLEXITY, (N - 1) / 3)
    if not 0 < perplexity < N:
        raise ValueError(
            f"the perplexity must be above 0 and less than the number of words, {N}, not "
            f"{perplexity:g}: use more words or another perplexity"
        )
    return TSNE(2, perplexity=perplexity, init="pca", random_state=SEED).fit_transform(x_ND)
