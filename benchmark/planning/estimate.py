"""What a pack will take: hours, memory, disk; from similar runs that ended here, else a guess.

Imports no torch.
"""

from __future__ import annotations

import heapq
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.data.datasets import described, image_side
from benchmark.run.identity import Run
from benchmark.run.index import RunIndex

# One run's images of 32x32 pixels a second, in inverse proportion to their side. Nothing that
# this was measured on is known about the machine at hand, so it is only ever called a guess.
_GUESSED_RATE = {"cuda": 3000.0, "cpu": 300.0}
# Megabytes: the process with its libraries, a run's weights and optimiser, and bytes a pixel of
# a batch for the maps of two networks (photographs are halved twice before the first stage).
# Rather too much than too little: a pack that does not fit is killed, and leaves no measure.
_GUESSED_BASE, _GUESSED_RUN, _GUESSED_PIXEL = 600.0, 200.0, 6e-3
_GUESSED_DISK = 40.0
_STEM_SIDE = 64
_READ_AT_MOST = 1000

Kind = tuple[str, ...]


class Cost(NamedTuple):
    """What runs in one process take; ``measured``: the share of them that was measured."""

    hours: float
    memory_mb: float
    disk_mb: float
    measured: float


class _Seen(NamedTuple):
    """One finished run: as :class:`Measured`, and the megabytes of its directory."""

    student: float
    teacher: float | None
    packed: int
    peak_mb: float | None
    disk_mb: float


class History:
    """What the results in a runs directory say about runs to come."""

    def __init__(self, seen: Mapping[Kind, Sequence[_Seen]]) -> None:
        self._seen = seen

    def cost(self, runs: Iterable[Run]) -> Cost:
        """Estimate one pack: all its runs in one process, their teacher's pass once."""
        packed = list(runs)
        students = [self._similar(run) for run in packed]
        teachers = [self._seen.get(_teacher_kind(run.to_json()), ()) for run in packed]
        seconds, taught, measured = 0.0, 0.0, 0
        for run, student, teacher in zip(packed, students, teachers, strict=True):
            epochs = 0 if run.weights else run.recipe.epochs
            seconds += epochs * _median(student, "student", _seconds(run))
            # Methods may have a teacher of their own, and use the shared one not at all.
            shares = run.teacher is not None
            if student:
                shares = any(seen.teacher is not None for seen in student)
            if shares:
                taught = max(taught, epochs * _median(teacher, "teacher", _seconds(run)))
            measured += bool(student) and (not shares or bool(teacher))
        memory = max(self._memory(run, len(packed)) for run in packed)
        disk = sum(_median(seen, "disk_mb", _GUESSED_DISK) for seen in students)
        return Cost((seconds + taught) / 3600, memory, disk, measured / len(packed))

    def _similar(self, run: Run) -> Sequence[_Seen]:
        return next((self._seen[k] for k in _kinds(run.to_json()) if k in self._seen), ())

    def _memory(self, run: Run, packed: int) -> float:
        """Megabytes of a process that trains ``packed`` runs such as this one.

        A larger pack than was measured is taken to need as much more: more than it will, since
        a part of it is shared.
        """
        peaks = [
            seen.peak_mb * max(1.0, packed / seen.packed)
            for seen in self._similar(run)
            if seen.peak_mb is not None
        ]
        if peaks:
            return statistics.median(peaks)
        side = min(_side(run), _STEM_SIDE)
        pixels = run.recipe.batch_size * side**2
        return _GUESSED_BASE + packed * _GUESSED_RUN + pixels * _GUESSED_PIXEL


def read_history(runs_dir: Path) -> History:
    """Take the newest results below ``runs_dir``; damaged and foreign ones are passed over."""
    index = RunIndex(runs_dir)
    index.refresh()
    cells = index.all_cells()
    measured = (run for run in index.all_runs() if run.measured is not None)
    found: dict[Kind, list[_Seen]] = {}
    for run in heapq.nlargest(_READ_AT_MOST, measured, key=lambda run: run.ended):
        assert run.measured is not None
        seen = _Seen(*run.measured, _disk_mb(runs_dir / run.key))
        kinds = _kinds(cells[run.cell])
        kinds += [] if seen.teacher is None else [_teacher_kind(cells[run.cell])]
        for kind in kinds:
            found.setdefault(kind, []).append(seen)
    return History(found)


def _disk_mb(folder: Path) -> float:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries) / 2**20
    except OSError:
        return _GUESSED_DISK  # it is being deleted


def _kinds(cell: dict[str, Any]) -> list[Kind]:
    """What makes runs similar, the closest first; another network is no measure.

    Most methods cost little beside their networks, so another method is the next best measure.
    """
    methods = [method["name"] for method in cell["methods"]]
    student = ("student", *_place(cell), cell["model"])
    pair = (*student, _teacher_of(cell))
    return [(*pair, cell["recipe"]["precision"], *methods), pair, student]


def _teacher_kind(cell: dict[str, Any]) -> Kind:
    """What makes two passes of a teacher similar."""
    return ("teacher", *_place(cell), _teacher_of(cell), cell["recipe"]["precision"])


def _place(cell: dict[str, Any]) -> Kind:
    recipe = cell["recipe"]
    sizes = tuple(str(recipe[name]) for name in ("input_size", "batch_size", "threads"))
    return (recipe["device"], cell["dataset"]["name"], *sizes)


def _teacher_of(cell: dict[str, Any]) -> str:
    teacher = cell["teacher"]
    if not teacher:
        return ""
    size = teacher.get("input_size")
    return teacher["model"] if size is None else f"{teacher['model']}, {size}"


def _median(seen: Sequence[_Seen], field: str, guess: float) -> float:
    return statistics.median(getattr(item, field) for item in seen) if seen else guess


def _seconds(run: Run) -> float:
    """Seconds an epoch of one network where nothing is known."""
    rate = _GUESSED_RATE.get(run.recipe.device, _GUESSED_RATE["cpu"])
    return described(run.dataset.name, run.dataset.own).num_train / rate * _side(run) / 32


def _side(run: Run) -> int:
    return image_side(described(run.dataset.name, run.dataset.own), run.recipe)
