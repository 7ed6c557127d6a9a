"""Cosines of cross-entropy's and BinaryKL's gradients through training, layer by layer.

A column of panels a method: above, a field a weight tensor (the first layer at the top, the
classifier at the bottom) and an epoch, with a line where the sign turns; below, the backbone as one
vector against the classifier. The last panel has every method's classifier and how far it is from
the corners of a simplex. Of runs with ``recipe.probes=conflict``, the lowest seed that has one
(after the propositions of Dual-Head Knowledge Distillation, arXiv:2411.08937).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.style import BLUE, INK, RED, heading, look_of
from benchmark.results.grid import GridColumn, GridRow
from benchmark.results.render.layout import row_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 4
PROBE = "conflict"


class Course(NamedTuple):
    """What was recorded of one row's run: lines by epoch, those with cosines apart."""

    row: GridRow
    run: str
    simplex: list[tuple[int, float]]
    lines: list[dict[str, Any]]


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column with a run that recorded cosines."""
    for column in source.grid.columns:
        courses = [
            c for row, _ in source.trained_rows(column.name) if (c := _course(source, row, column))
        ]
        if any(course.lines for course in courses):
            yield _drawing(source, column, courses)


def _course(source: FigureSource, row: GridRow, column: GridColumn) -> Course | None:
    for run, lines in source.probed(row.name, column.name, PROBE)[:1]:
        simplex = [(int(line["epoch"]), float(line["simplex"])) for line in lines]
        return Course(row, run.key, simplex, [line for line in lines if line.get("cosines")])
    return None


def _drawing(source: FigureSource, column: GridColumn, courses: Sequence[Course]) -> Drawing:
    shown = [course for course in courses if course.lines]
    places = len(shown) + 1
    across = min(_ACROSS, places)
    down = -(-places // across)
    size = (max(2.3 * across, 4.2) + 0.5, 0.6 + 3.0 * down)
    figure = Figure(figsize=size, layout="constrained")
    title = title_of(source.grid, f"{column_title(column)}, gradients of CE and BinaryKL by epoch")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    axes = figure.subplots(2 * down, across, squeeze=False, height_ratios=[3, 2] * down)
    image: Any = None
    for place in range(down * across):
        above, below = (axes[2 * (place // across) + k][place % across] for k in (0, 1))
        if place < len(shown):
            image = _fields(above, shown[place])
            _lines(below, shown[place], place == 0)
        elif place == len(shown):
            _simplex(above, courses)
            _legend_of(below, above)
        else:
            above.set_axis_off()
            below.set_axis_off()
    bar = figure.colorbar(image, ax=axes.ravel().tolist(), fraction=0.02, pad=0.01, aspect=40)
    bar.set_label("cosine of the two gradients")
    name = file_name(source.grid.name, "conflict-training", column.name)
    rows = [row for course in courses for row in _data(course)]
    return Drawing(name, title, figure, rows, tuple(course.run for course in courses))


def _fields(axes: Axes, course: Course) -> Any:
    tensors = list(course.lines[-1]["cosines"])
    epochs = [int(line["epoch"]) for line in course.lines]
    values = np.array([[line["cosines"].get(t, np.nan) for line in course.lines] for t in tensors])
    extent = (epochs[0] - 0.5, epochs[-1] + 0.5, len(tensors) - 0.5, -0.5)
    image = axes.imshow(
        values,
        cmap="cividis",
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=extent,
    )
    if len(epochs) > 1 and len(tensors) > 1 and np.nanmin(values) < 0 < np.nanmax(values):
        axes.contour(
            epochs, range(len(tensors)), values, levels=[0.0], colors="white", linewidths=0.6
        )
    axes.grid(visible=False)
    axes.set_yticks([0, len(tensors) - 1], ["first", "last"])
    heading(axes, row_label(course.row))
    return image


def _lines(axes: Axes, course: Course, labelled: bool) -> None:
    epochs = [int(line["epoch"]) for line in course.lines]
    head = [line["cosines"].get(line["classifier"], np.nan) for line in course.lines]
    few = "o" if len(epochs) < 15 else ""
    axes.axhline(0, color=INK, linewidth=0.7)
    backbone = [line["backbone"] for line in course.lines]
    axes.plot(epochs, backbone, color=BLUE, marker=few, markersize=2.5, label="backbone")
    axes.plot(
        epochs,
        head,
        color=RED,
        linestyle="--",
        marker=few and "s",
        markersize=2.5,
        label="classifier",
    )
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel("epoch")
    if labelled:
        axes.set_ylabel("cosine")
        axes.legend(loc="best")


def _simplex(axes: Axes, courses: Sequence[Course]) -> None:
    for number, course in enumerate(courses):
        epochs, values = zip(*course.simplex, strict=True)
        axes.plot(epochs, values, label=row_label(course.row), linewidth=1.0, **look_of(number))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    heading(axes, "classifier to a simplex")


def _legend_of(axes: Axes, shown: Axes) -> None:
    axes.set_axis_off()
    handles, labels = shown.get_legend_handles_labels()
    axes.legend(handles, labels, loc="upper left", ncols=1 + (len(labels) > 8), fontsize=6.5)


def _data(course: Course) -> Iterator[dict[str, Any]]:
    about = {"row": course.row.name, "run": course.run}
    for epoch, value in course.simplex:
        yield {**about, "epoch": epoch, "quantity": "simplex", "tensor": "", "value": value}
    for line in course.lines:
        at = {**about, "epoch": int(line["epoch"])}
        yield {**at, "quantity": "backbone", "tensor": "", "value": float(line["backbone"])}
        for tensor, value in line["cosines"].items():
            what = "classifier" if tensor == line["classifier"] else "cosine"
            yield {**at, "quantity": what, "tensor": tensor, "value": float(value)}
