"""The teacher's logits before and after each version of relative KD, where it is right and wrong.

Of each column the test images that the teacher is surest of: one that it names rightly and one
that it does not (figures 11 to 14 of the thesis). Hollow bars are before, full ones after; the
label's class is marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.networks import TEACHER, LookedColumn, columns
from benchmark.figures.style import BLUE, INK, RED, SOFT, heading
from benchmark.methods.relative_kd import relative_logits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VERSIONS = (1, 2, 3, 4)
_MOST = 20  # classes that are drawn: the highest ones, the label's among them


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column whose teacher can be read."""
    for found in columns(source, methods=False):
        if found.networks[0].name == TEACHER:
            yield _drawing(source, found)


def examples(logits: torch.Tensor, labels: torch.Tensor) -> list[tuple[str, int]]:
    """Return an image that is named rightly and one that is not, the surest of each."""
    sure, named = logits.softmax(1).max(1)
    found = []
    for word, mine in (("right", named == labels), ("wrong", named != labels)):
        if mine.any():
            found.append((word, int(sure.masked_fill(~mine, -1.0).argmax())))
    return found


def _drawing(source: FigureSource, found: LookedColumn) -> Drawing:
    logits, labels = found.networks[0].logits, found.images.labels
    chosen = examples(logits, labels)
    figure = Figure(figsize=(7.6, 0.5 + 1.75 * len(chosen)), layout="constrained")
    panels = figure.subplots(len(chosen), len(_VERSIONS), squeeze=False, sharey="row")
    title = title_of(source.grid, f"{column_title(found.column)}, the teacher's logits")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    rows: list[dict[str, Any]] = []
    for line, (word, n) in zip(panels, chosen, strict=True):
        before, label = logits[n], int(labels[n])
        classes = _shown(before, label)
        for axes, version in zip(line, _VERSIONS, strict=True):
            after = relative_logits(logits[n : n + 1], labels[n : n + 1], version)[0]
            heading(axes, f"version {version}", word)
            _panel(axes, before, after, classes, label)
            rows += [
                {
                    "version": version,
                    "teacher": word,
                    "class": k,
                    "label": k == label,
                    "before": float(before[k]),
                    "after": float(after[k]),
                }
                for k in range(len(before))
            ]
        line[0].set_ylabel("logit")
    for axes in panels[-1]:
        axes.set_xlabel("class")
    name = file_name(source.grid.name, "relative-logits", found.column.name)
    return Drawing(name, title, figure, rows, found.runs)


def _shown(logits: torch.Tensor, label: int) -> list[int]:
    highest = logits.argsort(descending=True)[:_MOST].tolist()
    return sorted({*highest[: _MOST - 1], label} if label not in highest else set(highest))


def _panel(
    axes: Axes, before: torch.Tensor, after: torch.Tensor, classes: list[int], label: int
) -> None:
    places = range(len(classes))
    axes.bar(
        places,
        [float(after[k]) for k in classes],
        width=0.62,
        color=[RED if k == label else BLUE for k in classes],
    )
    axes.bar(
        places,
        [float(before[k]) for k in classes],
        width=0.82,
        fill=False,
        edgecolor=INK,
        linewidth=0.7,
    )
    axes.axhline(0, color=SOFT, linewidth=0.6)
    axes.set_xticks(places, [f"{k}*" if k == label else str(k) for k in classes], fontsize=6)
    axes.grid(visible=False, axis="x")
