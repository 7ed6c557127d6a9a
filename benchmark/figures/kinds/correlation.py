"""How students differ from their teacher in the correlations between the logits of classes.

Each field is the absolute difference of two correlations, student's and teacher's, over the same
test images; beside each student their mean over all pairs of classes (after the figures of
Contrastive Representation Distillation and the DHKD poster).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.networks import TEACHER, LookedColumn, columns
from benchmark.figures.style import heading

_ACROSS = 4
_MOST_ROWS = 20  # classes whose single pairs are in the data; of more the means alone


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column whose teacher can be read."""
    for found in columns(source):
        if found.networks[0].name == TEACHER and len(found.networks) > 1:
            yield _drawing(source, found)


def differences(student: Any, teacher: Any) -> Any:
    """Return |corr(student) - corr(teacher)| [K, K] of logits [N, K].

    A class whose logit never moves correlates with nothing.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ours, theirs = (np.nan_to_num(np.corrcoef(x, rowvar=False)) for x in (student, teacher))
    return np.abs(ours - theirs)


def _drawing(source: FigureSource, found: LookedColumn) -> Drawing:
    teacher, *students = found.networks
    matrices = [
        differences(one.logits.double().numpy(), teacher.logits.double().numpy())
        for one in students
    ]
    across = min(_ACROSS, len(students))
    down = -(-len(students) // across)
    figure = Figure(figsize=(max(2.0 * across + 0.7, 4.2), 0.5 + 2.15 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    title = title_of(source.grid, f"{column_title(found.column)}, correlation of logits")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    top = float(np.quantile(np.stack(matrices), 0.99)) or 1.0
    rows: list[dict[str, Any]] = []
    for axes in panels[len(students) :]:
        axes.set_axis_off()
    for axes, one, matrix in zip(panels, students, matrices, strict=False):
        mean = float(matrix.mean())
        heading(axes, one.name, f"mean {mean:.3f}")
        image = axes.imshow(matrix, cmap="Greys", vmin=0, vmax=top, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        rows.append({"row": one.name, "class_a": "all", "class_b": "all", "difference": mean})
        if len(matrix) <= _MOST_ROWS:
            rows += [
                {"row": one.name, "class_a": a, "class_b": b, "difference": float(matrix[a, b])}
                for a in range(len(matrix))
                for b in range(a + 1, len(matrix))
            ]
    bar = figure.colorbar(image, ax=panels.tolist(), fraction=0.03, pad=0.01, aspect=30)
    bar.set_label("|student's \N{MINUS SIGN} teacher's correlation|")
    name = file_name(source.grid.name, "correlation", found.column.name)
    return Drawing(name, title, figure, rows, found.runs)
