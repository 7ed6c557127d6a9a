"""A forest plot: every difference with its 95 % interval, the margin, and the verdict.

One panel a column, rows from top to bottom. The shaded band is the table's margin: an interval
within it says reproduced. Shape and mark name the verdict; hollow points are undecided. Where a
table has no published values: gains over its plain student.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.figures.against import Compared, compare_all, reference_words
from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.kinds.differences import as_row
from benchmark.figures.style import FAINT, INK, SOFT, VERDICTS, heading, limits
from benchmark.results.grid import Grid, GridColumn, GridRow
from benchmark.results.render.layout import fixed, row_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 4
_FURTHEST = 6.0  # margins; what lies beyond is drawn at the edge, its number beside


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield one figure for each metric that has a difference."""
    found = compare_all(source.grid)
    for metric in source.grid.metrics:
        mine = {key[:2]: one for key, one in found.items() if key[2] == metric}
        if mine:
            yield _drawing(source.grid, metric, mine)


def _drawing(grid: Grid, metric: str, found: Mapping[tuple[str, str], Compared]) -> Drawing:
    rows = [row for row in grid.rows if any(key[0] == row.name for key in found)]
    columns = [column for column in grid.columns if any(key[1] == column.name for key in found)]
    across = min(_ACROSS, len(columns))
    down = -(-len(columns) // across)
    names = max(len(row_label(row)) for row in rows)
    size = (0.062 * names + 0.5 + 2.1 * across, 0.95 + down * (0.45 + 0.19 * len(rows)))
    figure = Figure(figsize=(max(size[0], 4.6), size[1]), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    ends = [x for one in found.values() for x in (one.delta, one.low, one.high) if x is not None]
    margin, published = grid.margin_of(metric), grid.has_published
    reach = limits([*ends, 0.0, *((margin, -margin) if published else ())])
    if published:
        reach = max(reach[0], -_FURTHEST * 2 * margin), min(reach[1], _FURTHEST * 2 * margin)
    for place, axes in enumerate(panels.ravel()):
        if place < len(columns):
            _panel(axes, columns[place], rows, found, margin if published else None, reach)
        else:
            axes.set_axis_off()
    # Room for the numbers at the right.
    reach = reach[0], reach[1] + 0.24 * (reach[1] - reach[0])
    first = panels[0][0]
    first.set_yticks(range(len(rows)), [row_label(row) for row in rows])
    first.set_ylim(len(rows) - 0.4, -0.6)
    first.set_xlim(*reach)
    for axes in panels.ravel()[max(0, len(columns) - across) : len(columns)]:
        axes.set_xlabel(f"{reference_words(grid)} (points)")
        axes.tick_params(labelbottom=True)
    title = title_of(grid, reference_words(grid), metric)
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    _legend(figure, found.values(), margin if published else None)
    further = metric if len(grid.metrics) > 1 else ""
    return Drawing(
        file_name(grid.name, "forest", further),
        title,
        figure,
        [as_row(key, metric, one) | {"margin": margin} for key, one in found.items()],
        tuple(dict.fromkeys(k for key in found for k in grid.cells[(*key, metric)].runs)),
    )


def _panel(
    axes: Axes,
    column: GridColumn,
    rows: Sequence[GridRow],
    found: Mapping[tuple[str, str], Compared],
    margin: float | None,
    reach: tuple[float, float],
) -> None:
    heading(axes, column_title(column))
    axes.grid(visible=False, axis="y")
    if margin is not None:
        axes.axvspan(-margin, margin, color=FAINT, alpha=0.55, linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=0.7, zorder=1)
    beside = axes.get_yaxis_transform()
    for place, row in enumerate(rows):
        if place and row.group != rows[place - 1].group:
            axes.axhline(place - 0.5, color=FAINT, linewidth=0.6, zorder=0)
        one = found.get((row.name, column.name))
        if one is None:
            continue
        colour, shape, filled = VERDICTS[one.verdict]
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [place, place], color=colour, linewidth=1.1)
        inside = min(max(one.delta, reach[0]), reach[1])
        axes.plot(
            [inside],
            [place],
            shape,
            color=colour,
            markersize=4.5,
            clip_on=False,
            markerfacecolor=colour if filled else "white",
            markeredgewidth=1.0,
        )
        said = f"{fixed(one.delta, 2, sign=True)}{'*' if one.override else ''} {one.symbol}"
        axes.text(
            1.0,
            place,
            said.rstrip(),
            transform=beside,
            fontsize=6,
            va="center",
            ha="right",
            color=SOFT,
        )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _legend(figure: Figure, found: Iterable[Compared], margin: float | None) -> None:
    handles = []
    verdicts = {one.verdict for one in found}
    for verdict, (colour, shape, filled) in VERDICTS.items():
        if verdict is not None and verdict in verdicts:
            fill = colour if filled else "white"
            handles.append(
                Line2D(
                    [],
                    [],
                    color=colour,
                    marker=shape,
                    markerfacecolor=fill,
                    linestyle="",
                    label=str(verdict),
                )
            )
    if margin is not None:
        handles.append(
            Line2D([], [], color=FAINT, linewidth=6, label=f"margin, ±{margin:g} points")
        )
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
