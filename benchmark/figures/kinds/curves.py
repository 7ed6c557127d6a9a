"""Accuracy and loss terms by epoch, a panel a method, seeds as bands, for each column.

Above: test accuracy in front of the other methods' in grey, training accuracy dotted, the
published value dashed, the teacher's own as a dash-dotted line. Below: every loss term on a
logarithmic scale if all are positive. Vertical lines are drops of the learning rate. A band
reaches from the lowest to the highest seed (after figures 15 to 21 of the thesis).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.style import BLUE, FAINT, INK, RED, SOFT, heading, look_of
from benchmark.results.grid import GridColumn, GridRow
from benchmark.results.render.layout import fixed, metric_label, row_label
from benchmark.run.reading import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_ACROSS = 4
PUBLISHED: Any = (0, (4, 2))
TEACHER: Any = (0, (5, 1.5, 1, 1.5))
DROP: Any = (0, (1, 2))
_DROP = 0.6  # a rate that falls below this part of the one before it
_WIDE = 50.0  # losses whose largest is so many times the smallest stand on a logarithmic scale


class Band(NamedTuple):
    """A quantity over seeds by epoch."""

    epoch: Any
    mean: Any
    low: Any
    high: Any
    n: Any


class Panel(NamedTuple):
    """One method of a column: its bands by quantity, and the epochs at which its rate drops."""

    row: GridRow
    runs: Sequence[Reading]
    bands: dict[str, Band]
    drops: Sequence[int]


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column and metric that has recorded epochs."""
    for column in source.grid.columns:
        panels = [
            p for row, runs in source.trained_rows(column.name) if (p := _panel(source, row, runs))
        ]
        for metric in source.grid.metrics if panels else ():
            if any(f"test_{metric}" in panel.bands for panel in panels):
                yield _drawing(source, column, metric, panels)


def _panel(source: FigureSource, row: GridRow, runs: Sequence[Reading]) -> Panel | None:
    frame = source.epochs(run.key for run in runs)
    frame = frame[frame["epoch"] >= 1]
    if frame.empty:
        return None
    wanted = [
        c
        for c in frame.columns
        if c in ("test_top1", "test_top5", "train_top1") or c.startswith("loss.")
    ]
    bands = {name: band for name in wanted if (band := _band(frame, name)) is not None}
    return Panel(row, runs, bands, rate_drops(frame))


def _band(frame: DataFrame, name: str) -> Band | None:
    import pandas as pd

    values = pd.to_numeric(frame[name], errors="coerce")
    known = frame.assign(value=values)[np.isfinite(values)]
    if known.empty:
        return None
    grouped = known.groupby("epoch")["value"]
    epoch = np.array(sorted(grouped.groups))
    return Band(
        epoch, *(np.asarray(getattr(grouped, what)()) for what in ("mean", "min", "max", "count"))
    )


def rate_drops(frame: DataFrame) -> list[int]:
    """Return the first epochs of every step of the learning rate, of the first run."""
    first = frame[frame["run"] == frame["run"].iloc[0]].sort_values("epoch")
    rates, epochs = first["lr"].to_numpy(float), first["epoch"].to_numpy(int)
    fell = rates[1:] < _DROP * rates[:-1]
    # A schedule that falls at every epoch has no drops to mark.
    return [int(e) for e in epochs[1:][fell]] if fell.sum() <= 8 else []


def _drawing(
    source: FigureSource, column: GridColumn, metric: str, panels: Sequence[Panel]
) -> Drawing:
    grid, name = source.grid, f"test_{metric}"
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(
        figsize=(max(2.1 * across, 3.6) + 0.4, 2.45 * down + 0.75), layout="constrained"
    )
    title = title_of(grid, column_title(column), metric)
    figure.suptitle(title, x=0.01, ha="left")
    _legend(figure, source, column, metric, panels)
    axes = figure.subplots(
        2 * down, across, squeeze=False, sharex=True, height_ratios=[3, 2] * down
    )
    teacher = _teacher(source, column, metric)
    low = _lowest([p.bands[name] for p in panels if name in p.bands])
    rows: list[dict[str, Any]] = []
    for place in range(down * across):
        above, below = (axes[2 * (place // across) + k][place % across] for k in (0, 1))
        if place >= len(panels):
            above.set_axis_off()
            below.set_axis_off()
            continue
        panel = panels[place]
        _accuracy(above, source, column, metric, panels, panel, teacher, low)
        _losses(below, panel)
        if place + across >= len(panels):
            below.set_xlabel("epoch")
            below.tick_params(labelbottom=True)
        if place % across == 0:
            above.set_ylabel(f"{metric_label(metric)} (%)")
            below.set_ylabel("loss")
        rows += _data(panel, column)
    figure.align_ylabels()
    runs = tuple(run.key for panel in panels for run in panel.runs)
    further = metric if len(grid.metrics) > 1 else ""
    return Drawing(file_name(grid.name, "curves", column.name, further), title, figure, rows, runs)


def _legend(
    figure: Figure, source: FigureSource, column: GridColumn, metric: str, panels: Sequence[Panel]
) -> None:
    """Say once what the lines of the upper panels are."""
    looks: list[tuple[str, str, Any]] = [("test, seeds as a band", BLUE, "-")]
    looks.append(("the other methods", FAINT, "-"))
    if metric == "top1" and any("train_top1" in panel.bands for panel in panels):
        looks.append(("training", SOFT, ":"))
    cells = [source.grid.cell(panel.row.name, column.name, metric) for panel in panels]
    if any(cell is not None and cell.published_value is not None for cell in cells):
        looks.append(("published", RED, PUBLISHED))
    if _teacher(source, column, metric) is not None:
        looks.append(("teacher", INK, TEACHER))
    if any(panel.drops for panel in panels):
        looks.append(("drop of the learning rate", SOFT, DROP))
    handles = [Line2D([], [], color=c, linestyle=d, label=label) for label, c, d in looks]
    across = min(len(handles), 6 if len(panels) > 2 else 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=across)


def _lowest(bands: Sequence[Band]) -> float:
    """Return where the accuracies begin to matter: their lowest after a quarter of training."""
    found = []
    for band in bands:
        late = band.low[band.epoch >= band.epoch[-1] / 4]
        found.append(float(np.min(late if len(late) else band.low)))
    return min(found, default=0.0)


def _teacher(source: FigureSource, column: GridColumn, metric: str) -> float | None:
    row = next((row.name for row in source.grid.rows if row.kind == "teacher"), None)
    cell = source.grid.cell(row, column.name, metric) if row else None
    if cell is None:
        return None
    return cell.mean if cell.mean is not None else cell.published_value


def _accuracy(
    axes: Axes,
    source: FigureSource,
    column: GridColumn,
    metric: str,
    panels: Sequence[Panel],
    panel: Panel,
    teacher: float | None,
    low: float,
) -> None:
    grid, name = source.grid, f"test_{metric}"
    cell = grid.cell(panel.row.name, column.name, metric)
    accuracy = grid.higher_is_better
    tops = []
    for other in panels:
        if name in other.bands:
            band = other.bands[name]
            tops.append(float(np.max(band.high)))
            if other is not panel:
                axes.plot(band.epoch, band.mean, color=FAINT, linewidth=0.8, zorder=1)
    mine = panel.bands.get(name)
    if mine is not None:
        axes.fill_between(mine.epoch, mine.low, mine.high, color=BLUE, alpha=0.25, linewidth=0)
        few = len(mine.epoch) < 15
        axes.plot(mine.epoch, mine.mean, color=BLUE, marker="o" if few else "", markersize=2.5)
    train = panel.bands.get("train_top1") if metric == "top1" else None
    if train is not None:
        axes.plot(train.epoch, train.mean, color=SOFT, linestyle=":", linewidth=0.9)
    published = cell.published_value if cell else None
    lines = [(published, RED, PUBLISHED), (teacher, INK, TEACHER)]
    for value, colour, dash in lines:
        if value is not None:
            axes.axhline(
                value if accuracy else 100 - value, color=colour, linestyle=dash, linewidth=0.9
            )
            tops.append(value if accuracy else 100 - value)
    _mark_drops(axes, panel)
    top = max(tops)
    axes.set_ylim(low - 0.04 * (top - low), top + 0.08 * (top - low))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    mean = cell.mean if cell else None
    heading(axes, row_label(panel.row), "" if mean is None else fixed(mean, grid.decimals))
    if published is not None:
        said = f"published {fixed(published, grid.decimals)}"
        axes.text(0.98, 0.04, said, transform=axes.transAxes, ha="right", fontsize=6.5, color=SOFT)


def _losses(axes: Axes, panel: Panel) -> None:
    names = [name for name in panel.bands if name.startswith("loss.")]
    names.sort(key=lambda name: name != "loss.ce")
    if not names:
        axes.text(0.5, 0.5, "no losses recorded", transform=axes.transAxes, ha="center", color=SOFT)
    for number, name in enumerate(names):
        band, look = panel.bands[name], look_of(number)
        axes.fill_between(
            band.epoch, band.low, band.high, color=look["color"], alpha=0.2, linewidth=0
        )
        axes.plot(band.epoch, band.mean, label=name.removeprefix("loss."), linewidth=1.0, **look)
    lows = [float(np.min(panel.bands[name].low)) for name in names]
    highs = [float(np.max(panel.bands[name].high)) for name in names]
    if names and min(lows) > 0 and max(highs) / min(lows) > _WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(3))
    _mark_drops(axes, panel)
    if names:
        axes.legend(loc="best", fontsize=6, handlelength=1.8, borderaxespad=0.2, labelspacing=0.25)


def _mark_drops(axes: Axes, panel: Panel) -> None:
    for epoch in panel.drops:
        axes.axvline(epoch, color=SOFT, linewidth=0.5, linestyle=DROP, zorder=0)


def _data(panel: Panel, column: GridColumn) -> Iterator[dict[str, Any]]:
    for name, band in panel.bands.items():
        for epoch, mean, low, high, n in zip(*band, strict=True):
            yield {
                "row": panel.row.name,
                "column": column.name,
                "quantity": name,
                "epoch": int(epoch),
                "seeds": int(n),
                "mean": float(mean),
                "lowest": float(low),
                "highest": float(high),
            }
