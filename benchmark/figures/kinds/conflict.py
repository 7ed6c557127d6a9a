"""Whether cross-entropy and BinaryKL pull a network apart: cosines of their gradients by layer.

Of each finished student on 64 test images, in eval mode, against its teacher at temperature 2: a
dot a weight tensor from the first layer to the classifier (the square); below zero the two losses
disagree. Beside it how far the classifier is from a simplex: the mean over pairs of classes of
|cos + 1 / (K - 1)| of its centred rows, 0 for a simplex (Papyan et al. 2020, arXiv:2008.08186).
After the propositions of Dual-Head Knowledge Distillation (arXiv:2411.08937), at the end of
training; the kind conflict-training shows what lies before, of runs that recorded it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch.nn.functional as F
from matplotlib.figure import Figure

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.networks import TEACHER, LookedColumn, columns
from benchmark.figures.style import BLUE, INK, RED, heading
from benchmark.methods.binarykl import binarykl_loss
from benchmark.run.directory import RunDir
from benchmark.train.probes.conflict import (
    TEMPERATURE,
    Cosines,
    gradient_cosines,
    simplex_distance,
)
from benchmark.train.trained import TrainedStudent, load_student

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 4
_IMAGES = 64  # both gradients of all of them for each student


class Conflict(NamedTuple):
    """Cosines by weight tensor, and the classifier's own distance."""

    cosines: Cosines
    simplex: float


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column whose teacher can be read."""
    for found in columns(source):
        if found.networks[0].name == TEACHER:
            conflicts = {}
            for one in found.networks[1:]:
                student = load_student(RunDir(source.runs_dir, one.run))
                if student.predictor is None:  # its classifier predicts
                    conflicts[one.name] = _conflict(student, found)
            if conflicts:
                yield _drawing(source, found, conflicts)


def _conflict(student: TrainedStudent, found: LookedColumn) -> Conflict:
    images, labels = (part[:_IMAGES] for part in found.images)
    teacher = found.networks[0].logits[:_IMAGES]
    student.model.requires_grad_(True)
    logits = student.features(images).logits
    losses = F.cross_entropy(logits, labels), binarykl_loss(logits, teacher, TEMPERATURE)
    cosines = gradient_cosines(student.model, *losses)
    return Conflict(cosines, simplex_distance(student.model.head.weight.detach()))


def _drawing(source: FigureSource, found: LookedColumn, conflicts: dict[str, Conflict]) -> Drawing:
    across = min(_ACROSS, len(conflicts))
    down = -(-len(conflicts) // across)
    size = (max(2.0 * across, 4.2), 0.6 + 1.6 * down)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    title = title_of(source.grid, f"{column_title(found.column)}, gradients of CE and BinaryKL")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    figure.supxlabel("weight tensor, from the first layer to the classifier", fontsize=8)
    figure.supylabel("cosine", fontsize=8)
    rows: list[dict[str, Any]] = []
    for axes in panels[len(conflicts) :]:
        axes.set_axis_off()
    for axes, (name, one) in zip(panels, conflicts.items(), strict=False):
        heading(axes, name, f"to a simplex {one.simplex:.3f}")
        _panel(axes, one)
        rows += [
            {
                "row": name,
                "tensor": tensor,
                "classifier": tensor == one.cosines.classifier,
                "cosine": cosine,
                "simplex": one.simplex,
            }
            for tensor, cosine in one.cosines.tensors.items()
        ]
    name = file_name(source.grid.name, "conflict", found.column.name)
    return Drawing(name, title, figure, rows, found.runs)


def _panel(axes: Axes, one: Conflict) -> None:
    tensors, classifier, _ = one.cosines
    body = [(n, c) for n, (name, c) in enumerate(tensors.items()) if name != classifier]
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.plot([n for n, _ in body], [c for _, c in body], "o-", color=BLUE, markersize=2.5)
    if classifier in tensors:
        place = list(tensors).index(classifier)
        axes.plot([place], [tensors[classifier]], "s", color=RED, markersize=5)
    axes.set_ylim(-1.05, 1.05)
