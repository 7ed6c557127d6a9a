"""Accuracy against the seconds that training took, a panel a column, with test-time parameters.

Seconds are a run's own part of its packs, its share of the teacher's pass included, as measured
on the machine that trained it: rows of one column are comparable where one kind of machine had
them all. The dashed line joins the rows that no other beats in both.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular
from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.style import BLUE, INK, RED, SHAPES, SOFT, heading, limits
from benchmark.results.grid import GridColumn, GridRow
from benchmark.results.render.layout import metric_label
from benchmark.run.directory import RunDir
from benchmark.run.reading import Reading
from benchmark.run.state import RunState

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 3
# A letter's width, a line's height, and how far beside its point a name stands, parts of a panel.
_LETTER, _TALL, _BESIDE = 0.026, 0.06, 0.03
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_LONGEST_HEADER = 10_000_000


class CostPoint(NamedTuple):
    """A row of a column: its seconds and value, the spread over seeds, and its parameters."""

    row: GridRow
    seconds: float
    value: float
    std: float | None
    parameters: int | None
    runs: tuple[str, ...]


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield one figure for each metric of which two rows of a column are finished."""
    grid = source.grid
    for metric in grid.metrics:
        found = {column.name: _points(source, column, metric) for column in grid.columns}
        columns = [column for column in grid.columns if len(found[column.name]) > 1]
        if columns:
            yield _drawing(source, metric, columns, found)


def _points(source: FigureSource, column: GridColumn, metric: str) -> list[CostPoint]:
    points = []
    for row, runs in source.trained_rows(column.name):
        cell = source.grid.cell(row.name, column.name, metric)
        done = [r for r in runs if r.state is RunState.DONE and r.own_seconds > 0]
        if cell is not None and cell.mean is not None and done:
            seconds = fmean(run.own_seconds for run in done)
            keys = tuple(run.key for run in done)
            size = _first_size(source.runs_dir, done)
            points.append(CostPoint(row, seconds, cell.mean, cell.std, size, keys))
    return points


def _first_size(runs_dir: Path, runs: Sequence[Reading]) -> int | None:
    return next((n for run in runs if (n := parameters(RunDir(runs_dir, run.key)))), None)


def parameters(rundir: RunDir) -> int | None:
    """Return how many numbers a trained network has, from the header of its weights alone.

    What its method keeps beside the network is not counted; None if no weights are there.
    """
    try:
        with open_regular(rundir.weights) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
    except (OSError, ValueError, RecursionError, struct.error, UserError):
        return None
    total = 0
    try:
        for name, entry in header.items():
            own = not name.startswith(("method.", "average.", "__metadata__"))
            if own and not name.endswith(_BUFFERS):
                total += math.prod(entry["shape"])
    except (AttributeError, KeyError, TypeError):  # a header of another form
        return None
    return total


def _drawing(
    source: FigureSource,
    metric: str,
    columns: Sequence[GridColumn],
    found: dict[str, list[CostPoint]],
) -> Drawing:
    grid = source.grid
    across = min(_ACROSS, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(max(3.1 * across, 4.4), 0.7 + 2.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    names = list(dict.fromkeys(p.row.name for c in columns for p in found[c.name]))
    for place, axes in enumerate(panels.ravel()):
        if place < len(columns):
            _panel(axes, columns[place], found[columns[place].name], names, grid.higher_is_better)
        else:
            axes.set_axis_off()
    kind = "accuracy" if grid.higher_is_better else "error"
    figure.supxlabel("seconds of training, mean over seeds", fontsize=8)
    figure.supylabel(f"{metric_label(metric)} {kind} (%)", fontsize=8)
    title = title_of(grid, f"cost against {kind}", metric)
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    rows = [
        {
            "row": point.row.name,
            "column": column.name,
            "metric": metric,
            "seconds": point.seconds,
            "value": point.value,
            "std": point.std,
            "parameters": point.parameters,
            "seeds": len(point.runs),
        }
        for column in columns
        for point in found[column.name]
    ]
    further = metric if len(grid.metrics) > 1 else ""
    keys = dict.fromkeys(key for c in columns for p in found[c.name] for key in p.runs)
    return Drawing(file_name(grid.name, "cost", further), title, figure, rows, tuple(keys))


def _panel(
    axes: Axes,
    column: GridColumn,
    points: Sequence[CostPoint],
    names: Sequence[str],
    accuracy: bool,
) -> None:
    sizes = {point.parameters for point in points if point.parameters}
    said = f"{min(sizes):,} parameters" if len(sizes) == 1 else ""
    heading(axes, column_title(column), said)
    front = frontier(points, accuracy)
    axes.plot(
        [p.seconds for p in front],
        [p.value for p in front],
        color=SOFT,
        linestyle=(0, (3, 2)),
        linewidth=0.8,
        zorder=1,
    )
    for point in points:
        colour = RED if point in front else BLUE
        shape = SHAPES[names.index(point.row.name) % len(SHAPES)]
        axes.errorbar(
            point.seconds,
            point.value,
            yerr=point.std,
            fmt=shape,
            color=colour,
            ecolor=SOFT,
            elinewidth=0.7,
            markersize=4.5,
            zorder=3,
        )
    axes.set_xlim(*limits([p.seconds for p in points], 0.16))
    ends = [p.value + s * (p.std or 0.0) for p in points for s in (-1, 1)]
    axes.set_ylim(*limits(ends, 0.1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 10 else f"{x:g}"))
    _label(axes, points)


def frontier(points: Sequence[CostPoint], accuracy: bool = True) -> list[CostPoint]:
    """Return the points that no other beats in both, by their seconds."""
    sign = 1.0 if accuracy else -1.0
    found: list[CostPoint] = []
    for point in sorted(points, key=lambda p: (p.seconds, -sign * p.value)):
        if not found or sign * point.value > sign * found[-1].value:
            found.append(point)
    return found


def _label(axes: Axes, points: Sequence[CostPoint]) -> None:
    """Name each point beside it; names that would overlap move apart, on a thin line."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    names = [point.row.name for point in points]
    at = [((p.seconds - left) / (right - left), (p.value - low) / (high - low)) for p in points]
    wide = [_LETTER * len(name) for name in names]
    starts = [_start(x, w) for (x, _), w in zip(at, wide, strict=True)]
    heights = _apart(starts, wide, [y for _, y in at])
    for name, (x, y), start, w, height in zip(names, at, starts, wide, heights, strict=True):
        if abs(height - y) > _TALL / 2:
            end = start if start > x else start + w
            axes.plot([x, end], [y, height], color=SOFT, linewidth=0.4, transform=axes.transAxes)
        axes.text(
            start, height, name, transform=axes.transAxes, fontsize=6.5, va="center", color=INK
        )


def _start(x: float, wide: float) -> float:
    """Return where a name begins: right of its point, left of it, or where it just fits."""
    if x + _BESIDE + wide <= 1.0:
        return x + _BESIDE
    left = x - wide - _BESIDE
    return left if left >= 0.0 else max(0.0, 1.0 - wide)


def _apart(starts: Sequence[float], wide: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return heights of names, moved until no two overlap (or as far as there is room)."""
    found = list(heights)
    order = sorted(range(len(found)), key=lambda n: (found[n], n))
    for _ in range(60):
        moved = False
        for place, a in enumerate(order):
            for b in order[place + 1 :]:
                beside = starts[a] >= starts[b] + wide[b] or starts[b] >= starts[a] + wide[a]
                gap = found[b] - found[a]
                if not beside and gap < _TALL:
                    push = (_TALL - gap) / 2
                    found[a], found[b] = max(0.02, found[a] - push), min(0.98, found[b] + push)
                    moved = True
        if not moved:
            break
    return found
