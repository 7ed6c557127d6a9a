"""t-SNE of the classifiers' inputs of teacher and students, on the same test images.

Ten classes at most, named at their middle; the same images, start and seed for every network, so
that panels differ by the features alone. Beside each: the part of an image's ten nearest
neighbours (in the features themselves) that are of its class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.networks import LookedColumn, columns
from benchmark.figures.style import COLOURS, INK, SHAPES, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLASSES = 10
_NEIGHBOURS = 10
_STEPS = 500  # half of scikit-learn's: the pictures no longer change
_ACROSS = 4


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column with finished runs."""
    for found in columns(source, classes=_CLASSES):
        if len(found.images.labels) > 3 * _NEIGHBOURS:
            yield _drawing(source, found)


def _drawing(source: FigureSource, found: LookedColumn) -> Drawing:
    labels = found.images.labels.numpy()
    across = min(_ACROSS, len(found.networks))
    down = -(-len(found.networks) // across)
    figure = Figure(figsize=(max(2.1 * across, 4.0), 0.4 + 2.25 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    title = title_of(source.grid, f"{column_title(found.column)}, t-SNE of features")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    rows: list[dict[str, Any]] = []
    for axes in panels[len(found.networks) :]:
        axes.set_axis_off()
    for axes, one in zip(panels, found.networks, strict=False):
        features = one.pooled.numpy().astype(np.float64)
        places = embed(features)
        heading(axes, one.name, f"{100 * purity(features, labels):.1f} %")
        _panel(axes, places, labels)
        rows += [
            {"network": one.name, "image": n, "label": int(label), "x": float(x), "y": float(y)}
            for n, (label, (x, y)) in enumerate(zip(labels, places, strict=True))
        ]
    name = file_name(source.grid.name, "tsne", found.column.name)
    return Drawing(name, title, figure, rows, found.runs)


def embed(features: Any) -> Any:
    """Return places [N, 2] of features [N, D]: scikit-learn's t-SNE from the first components."""
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(
        2, init="pca", perplexity=perplexity, random_state=0, max_iter=_STEPS
    ).fit_transform(features)


def purity(features: Any, labels: Any) -> float:
    """Return which part of the nearest neighbours of images are of their class, 0 to 1."""
    nearest = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1).fit(features).kneighbors(features)[1]
    return float((labels[nearest[:, 1:]] == labels[:, None]).mean())


def _panel(axes: Axes, places: Any, labels: Any) -> None:
    for number, label in enumerate(np.unique(labels)):
        mine = places[labels == label]
        colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)]
        axes.scatter(mine[:, 0], mine[:, 1], s=7, c=colour, marker=shape, linewidths=0, alpha=0.75)
        box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
        middle = np.median(mine, axis=0)
        axes.text(
            middle[0],
            middle[1],
            str(label),
            ha="center",
            va="center",
            fontsize=7,
            color=INK,
            bbox=box,
        )
    # Squares of one scale in both directions.
    middle, reach = (places.max(0) + places.min(0)) / 2, 0.54 * np.ptp(places, axis=0).max()
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), xticks=[], yticks=[])
    axes.set(ylim=(middle[1] - reach, middle[1] + reach), box_aspect=1)
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
