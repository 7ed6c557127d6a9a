"""A heat map of differences to the published values, rows by columns, with the verdicts.

Every field says its number with a sign and its verdict's mark, so that no colour is needed.
If a table has no published values: gains over its plain student. A hatched field has no
value yet, an empty one is not part of the table, a star marks runs with overrides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.figures.against import Compared, compare_all, reference_words
from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.style import FAINT, INK, SOFT
from benchmark.results.grid import State
from benchmark.results.render.layout import fixed, legend, row_label
from benchmark.results.render.markdown import SYMBOLS

_LEAST = 1.0  # points at which the colours end at the earliest


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield one figure for each metric that has a difference."""
    found = compare_all(source.grid)
    for metric in source.grid.metrics:
        mine = {key[:2]: one for key, one in found.items() if key[2] == metric}
        if mine:
            yield _drawing(source, metric, mine)


def _drawing(source: FigureSource, metric: str, found: dict[tuple[str, str], Compared]) -> Drawing:
    grid = source.grid
    rows = [row for row in grid.rows if any(key[0] == row.name for key in found)]
    columns = [column for column in grid.columns if any(key[1] == column.name for key in found)]
    values = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if (row.name, column.name) in found:
                values[i, j] = found[row.name, column.name].delta
    reach = max(_LEAST, float(np.nanquantile(np.abs(values), 0.95)))
    width = 1.9 + 0.86 * len(columns)
    figure = Figure(figsize=(max(width, 4.2), 1.5 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    # Errors are better if they are lower: the colours turn, the numbers stay as printed.
    colours = "PuOr" if grid.higher_is_better else "PuOr_r"
    image = axes.imshow(values, cmap=colours, vmin=-reach, vmax=reach, aspect="auto")
    axes.grid(visible=False)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            one = found.get((row.name, column.name))
            if one is None:
                cell = grid.cell(row.name, column.name, metric)
                if cell is not None and cell.state is not State.REFERENCE and not cell.values:
                    box = Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////")
                    box.set(edgecolor=FAINT, linewidth=0)
                    axes.add_patch(box)
                continue
            text = f"{fixed(one.delta, 2, sign=True)}{'*' if one.override else ''} {one.symbol}"
            dark = _luminance(image.to_rgba(np.array([one.delta]))[0]) < 0.4
            axes.text(
                j,
                i,
                text.rstrip(),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else INK,
            )
    labels = [
        column_title(column).replace(" \N{RIGHTWARDS ARROW} ", " \N{RIGHTWARDS ARROW}\n")
        for column in columns
    ]
    axes.set_xticks(range(len(columns)), labels, rotation=40 if len(columns) > 3 else 0)
    if len(columns) > 3:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [row_label(row) for row in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for i in range(1, len(rows)):
        new_group = rows[i].group != rows[i - 1].group
        axes.axhline(i - 0.5, color=INK if new_group else "white", linewidth=0.8)
    for j in range(1, len(columns)):
        axes.axvline(j - 0.5, color="white", linewidth=0.8)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, extend="both", aspect=30)
    bar.set_label(f"{reference_words(grid)} (points)")
    bar.outline.set_visible(False)
    title = title_of(grid, reference_words(grid), metric)
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    used = [f"{SYMBOLS[v]} {v}" for v, _ in legend(grid) if v in SYMBOLS]
    if any(one.override for one in found.values()):
        used.append("* with overrides")
    if used:
        figure.supxlabel("   ".join(used), fontsize=7, color=SOFT)
    further = metric if len(grid.metrics) > 1 else ""
    return Drawing(
        file_name(grid.name, "differences", further),
        title,
        figure,
        [as_row(key, metric, one) for key, one in found.items()],
        tuple(dict.fromkeys(k for key in found for k in grid.cells[(*key, metric)].runs)),
    )


def _luminance(colour: Any) -> float:
    """Return how bright a colour is to the eye, 0 to 1, roughly."""
    red, green, blue = colour[:3]
    return float(0.299 * red + 0.587 * green + 0.114 * blue)


def as_row(key: tuple[str, str], metric: str, one: Compared) -> dict[str, object]:
    """Return a difference as a row of data."""
    return {
        "row": key[0],
        "column": key[1],
        "metric": metric,
        "delta": one.delta,
        "low": one.low,
        "high": one.high,
        "verdict": str(one.verdict or ""),
        "overrides": one.override,
    }
