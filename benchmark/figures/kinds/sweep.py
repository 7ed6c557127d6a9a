"""A sweep as a heat map: accuracy by the two things that were swept most, a panel for the others.

A field says its mean, its deviation and its seeds; a thick frame is the best on held-out images, a
dashed one the best on the test set, and below stands by how much the latter flatters. Slots of one
combination alone have no figure.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.style import INK, SOFT, heading
from benchmark.results.render.layout import metric_label, row_label
from benchmark.results.sweep import Combination, combinations, sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 3
_SMALL = 6.5  # points


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each slot and metric with several combinations."""
    found = combinations(source.report.collected, source.report.statistics[0])
    for slot, group in itertools.groupby(found, lambda one: (one.row, one.column, one.metric)):
        mine = [one for one in group if one.settings]
        if len(mine) > 1:
            yield _drawing(source, slot, mine)


def _drawing(
    source: FigureSource, slot: tuple[str, str, str], found: Sequence[Combination]
) -> Drawing:
    grid = source.grid
    values = {name: _ordered([one.settings[name] for one in found]) for name in found[0].settings}
    across, *rest = sorted(values, key=lambda name: -len(values[name]))
    down, others = (rest[0], rest[1:]) if rest else ("", [])
    facets: dict[tuple[str, ...], list[Combination]] = {}
    for one in found:
        facets.setdefault(tuple(f"{n} = {one.settings[n]}" for n in others), []).append(one)
    columns = min(_ACROSS, len(facets))
    lines = -(-len(facets) // columns)
    wide, high = len(values[across]), len(values[down]) if down else 1
    said = [text.partition(": ")[2].replace("; ", ";\n") for text in sentences(found)]
    width = max((0.85 * wide + 1.3) * columns, 5.0)
    caption = _caption("; ".join(said), width)
    tall = (0.55 * high + 0.9) * lines + 0.8 + 0.12 * (1 + caption.count("\n"))
    size = (width, tall)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    means = [one.mean for one in found]
    row = next(r for r in grid.rows if r.name == slot[0])
    column = next(c for c in grid.columns if c.name == slot[1])
    title = title_of(grid, f"{row_label(row)}, {column_title(column)}", slot[2])
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    image: Any = None
    for panel, (words, mine) in zip(panels, facets.items(), strict=False):
        image = _panel(panel, mine, (across, down), values, (min(means), max(means)))
        heading(panel, ", ".join(words))
    for panel in panels[len(facets) :]:
        panel.set_axis_off()
    bar = figure.colorbar(image, ax=panels.tolist(), fraction=0.04, pad=0.02, aspect=25)
    bar.set_label(f"{metric_label(slot[2])} (%)")
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=_SMALL, color=SOFT)
    further = slot[2] if len(grid.metrics) > 1 else ""
    name = file_name(grid.name, "sweep", slot[0], slot[1], further)
    groups = source.report.collected.groups[slot[0], slot[1]]
    keys = tuple(run.key for group in groups for run in group.finished)
    return Drawing(name, title, figure, [one.flat() for one in found], keys)


def _caption(text: str, width: float) -> str:
    """Return text in lines that a figure so many inches wide has room for."""
    room = int(0.96 * width * 72 / (0.6 * _SMALL))  # a letter is about so wide, in points
    lines = [textwrap.wrap(line, room, break_on_hyphens=False) for line in text.split("\n")]
    return "\n".join(itertools.chain.from_iterable(lines))


def _panel(
    axes: Axes,
    found: Sequence[Combination],
    names: tuple[str, str],
    values: dict[str, list[Any]],
    ends: tuple[float, float],
) -> Any:
    across, down = names
    texts = [[repr(v) for v in values[name]] if name else [""] for name in names]
    field = np.full((len(texts[1]), len(texts[0])), np.nan)
    for one in found:
        field[_place(one, down, texts[1]), _place(one, across, texts[0])] = one.mean
    image = axes.imshow(field, cmap="cividis", vmin=ends[0], vmax=ends[1], aspect="auto")
    middle = (ends[0] + ends[1]) / 2
    for one in found:
        x, y = _place(one, across, texts[0]), _place(one, down, texts[1])
        spread = "" if one.std is None else f"\n\N{PLUS-MINUS SIGN} {one.std:.2f} ({one.n})"
        colour = "white" if one.mean < middle else INK
        axes.text(
            x, y, f"{one.mean:.2f}{spread}", ha="center", va="center", fontsize=7, color=colour
        )
        for chosen, dash, width, room in (
            (one.best_held_out, "-", 2.2, 0.46),
            (one.best_test, (0, (2, 1.5)), 1.4, 0.38),
        ):
            if chosen:
                box = Rectangle((x - room, y - room), 2 * room, 2 * room, fill=False)
                box.set(edgecolor=colour, linewidth=width, linestyle=dash)
                axes.add_patch(box)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(texts[0])), [str(v) for v in values[across]])
    axes.set_xlabel(across)
    axes.set_yticks(range(len(texts[1])), [str(v) for v in values[down]] if down else [""])
    axes.set_ylabel(down)
    return image


def _place(one: Combination, name: str, texts: Sequence[str]) -> int:
    return texts.index(repr(one.settings[name])) if name else 0


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Return values once each: numbers by size, others in the order of their text."""
    once = list({repr(value): value for value in values}.values())
    plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in once)
    return sorted(once, key=(lambda v: v) if plain else repr)
