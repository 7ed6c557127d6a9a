"""Singular values of projectors through training, and how their outputs correlate with inputs.

A panel a projector's matrix: all its singular values by epoch on one logarithmic scale, dark for
the largest to light for the smallest, the median dashed. The last panel has the mean |r| of the
maps' inputs and outputs, seeds as bands. Singular values are those of the lowest seed. Of runs
with ``recipe.probes=projection`` (after the studies of the projector in arXiv:2303.11098).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.style import RED, heading, look_of
from benchmark.results.grid import GridColumn
from benchmark.results.render.layout import row_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 4
_MOST = 64  # lines in a panel; of more values every so-manieth is drawn, all are in the data
_LEAST = 1e-4  # of the largest: what is smaller is below the scale, as the last 2 % are
PROBE = "projection"


class Map(NamedTuple):
    """One map of a row's method. ``values``: by matrix its singular values [epochs, D].

    ``correlations``: by seed, [epochs].
    """

    label: str
    row: str
    runs: tuple[str, ...]
    epochs: list[int]
    values: dict[str, Any]
    correlations: list[dict[int, float]]


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column with a run that recorded a projector."""
    for column in source.grid.columns:
        maps = [
            m for row, _ in source.trained_rows(column.name) for m in _maps(source, row, column)
        ]
        if maps:
            yield _drawing(source, column, maps)


def _maps(source: FigureSource, row: Any, column: GridColumn) -> Iterator[Map]:
    found = source.probed(row.name, column.name, PROBE)
    names = dict.fromkeys(name for _, lines in found for line in lines for name in line["maps"])
    for name in names:
        recorded = [
            (
                run.key,
                {int(line["epoch"]): line["maps"][name] for line in lines if name in line["maps"]},
            )
            for run, lines in found
        ]
        _, first = recorded[0]
        epochs = sorted(first)
        matrices = dict.fromkeys(m for one in first.values() for m in one["singular_values"])
        values = {m: np.array([first[e]["singular_values"][m] for e in epochs]) for m in matrices}
        label = row_label(row) + (f", {name}" if len(names) > 1 else "")
        correlations = [
            {e: float(one["correlation"]) for e, one in of.items()} for _, of in recorded
        ]
        yield Map(label, row.name, tuple(key for key, _ in recorded), epochs, values, correlations)


def _drawing(source: FigureSource, column: GridColumn, maps: Sequence[Map]) -> Drawing:
    panels = [(one, matrix) for one in maps for matrix in one.values]
    places = len(panels) + 1
    across = min(_ACROSS, places)
    down = -(-places // across)
    size = (max(2.2 * across, 4.2) + 0.3, 0.6 + 2.2 * down)
    figure = Figure(figsize=size, layout="constrained")
    title = title_of(source.grid, f"{column_title(column)}, singular values of projectors by epoch")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    every = np.concatenate([one.values[matrix].ravel() for one, matrix in panels])
    low, top = float(np.quantile(every, 0.02)), float(every.max())
    limits = (max(low, _LEAST * top) / 1.5, top * 1.3)
    for number, (one, matrix) in enumerate(panels):
        _spectrum(axes[number], one, matrix, limits)
        if number % across == 0:
            axes[number].set_ylabel("singular value")
    _correlations(axes[len(panels)], maps)
    for unused in axes[places:]:
        unused.set_axis_off()
    name = file_name(source.grid.name, "projection", column.name)
    runs = tuple(dict.fromkeys(key for one in maps for key in one.runs))
    return Drawing(name, title, figure, [row for one in maps for row in _data(one)], runs)


def _spectrum(axes: Axes, one: Map, matrix: str, limits: tuple[float, float]) -> None:
    values = one.values[matrix]
    count = values.shape[1]
    ranks = np.unique(np.linspace(0, count - 1, min(count, _MOST)).round().astype(int))
    greys = colormaps["cividis"]
    for rank in ranks:
        colour = greys(0.9 * rank / max(count - 1, 1))
        few = "." if len(one.epochs) < 15 else ""
        axes.plot(
            one.epochs, values[:, rank], color=colour, linewidth=0.6, marker=few, markersize=2
        )
    axes.plot(one.epochs, np.median(values, axis=1), color=RED, linestyle="--", linewidth=1.2)
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("epoch")
    last = values[-1]
    ratio = f"largest/median {last[0] / max(float(np.median(last)), 1e-30):.3g}"
    several = f" {matrix}" if len(one.values) > 1 else ""
    heading(axes, one.label + several)
    axes.text(0.98, 0.02, ratio, transform=axes.transAxes, ha="right", fontsize=6.5)


def _correlations(axes: Axes, maps: Sequence[Map]) -> None:
    for number, one in enumerate(maps):
        epochs = sorted({epoch for of in one.correlations for epoch in of})
        by_epoch = [[of[epoch] for of in one.correlations if epoch in of] for epoch in epochs]
        look = look_of(number)
        axes.plot(epochs, [np.mean(v) for v in by_epoch], label=one.label, linewidth=1.1, **look)
        low, high = ([f(v) for v in by_epoch] for f in (min, max))
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.2, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.legend(loc="best", fontsize=6.5)
    heading(axes, "mean |r|, input to output")


def _data(one: Map) -> Iterator[dict[str, Any]]:
    about = {"row": one.row, "map": one.label}
    for key, of in zip(one.runs, one.correlations, strict=True):
        for epoch, value in sorted(of.items()):
            at = {**about, "run": key, "epoch": epoch}
            yield {**at, "quantity": "correlation", "matrix": "", "rank": 0, "value": value}
    for matrix, values in one.values.items():
        for epoch, of_epoch in zip(one.epochs, values, strict=True):
            at = {**about, "run": one.runs[0], "epoch": epoch, "quantity": "singular value"}
            for rank, value in enumerate(of_epoch, 1):
                yield {**at, "matrix": matrix, "rank": rank, "value": float(value)}
