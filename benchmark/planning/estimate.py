"""What a pack will take: hours, memory, disk; from similar runs that ended here, else by counts.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmark.base.errors import UserError
from benchmark.data.datasets import DATASETS, dataset_identity, described
from benchmark.data.sidecar import read_sidecar
from benchmark.planning.modelled import Modelled, process_mb
from benchmark.run.identity import Run
from benchmark.run.index import RunIndex

_GUESSED_DISK = 40.0
_READ_AT_MOST = 1000
# Factors by which hours may be off: of runs that were measured (they meet other work on the
# machine), and of counts whose rates come from measured runs of other networks.
_MEASURED_SPREAD, _CALIBRATED_SPREAD = 1.25, 2.0

Kind = tuple[str, ...]


class Cost(NamedTuple):
    """What runs in one process take; ``measured``: the share of them that was measured.

    ``low`` and ``high``: the range that the hours are expected in; ``source``: what the part that
    was not measured follows from.
    """

    hours: float
    memory_mb: float
    disk_mb: float
    measured: float
    low: float
    high: float
    source: str


class _Seen(NamedTuple):
    """One finished run: as :class:`Measured`, and the megabytes of its directory."""

    student: float
    teacher: float | None
    packed: int
    peak_mb: float | None
    images: float | None
    disk_mb: float


class _Part(NamedTuple):
    """Seconds, with the factor that they may be off by."""

    seconds: float
    spread: float


class _Kinds(NamedTuple):
    """What makes others similar to a run (the closest first), to its teacher's pass, its device."""

    closest: Sequence[Kind] = ()
    teacher: Kind = ()
    device: Kind = ()


class History:
    """What the results in a runs directory say about runs to come.

    ``images``: how many a training set has, by its digest, if that is known.
    """

    def __init__(
        self,
        seen: Mapping[Kind, Sequence[_Seen]],
        images: Mapping[str, float] | None = None,
        pace: Mapping[Kind, float] | None = None,
    ) -> None:
        self._seen = seen
        self._images = images or {}
        self._pace = pace or {}
        self._kinds: dict[str, _Kinds] = {}

    def cost(self, runs: Iterable[Run]) -> Cost:
        """Estimate one pack: all its runs in one process, their teacher's pass once."""
        packed = list(runs)
        models = [Modelled(run, self.num_images(run)) for run in packed]
        parts: list[_Part] = []
        taught = _Part(0.0, 1.0)
        measured = 0
        for run, model in zip(packed, models, strict=True):
            epochs = 0 if run.weights else run.recipe.epochs
            student, teacher = self._similar(run), self._seen.get(self._kinds_of(run).teacher, ())
            counted, pace = model.epoch(), self._pace.get(self._kinds_of(run).device)
            guess = _Part(
                counted.student * (pace or 1.0), _CALIBRATED_SPREAD if pace else model.spread
            )
            parts.append(_times(epochs, self._part(student, "student", run, guess)))
            # Methods may have a teacher of their own, and use the shared one not at all.
            shares = run.teacher is not None
            if student:
                shares = any(seen.teacher is not None for seen in student)
            if shares:
                guess = guess._replace(seconds=counted.teacher * (pace or 1.0))
                pass_ = _times(epochs, self._part(teacher, "teacher", run, guess))
                taught = max(taught, pass_)
            measured += bool(student) and (not shares or bool(teacher))
        parts.append(taught)
        hours, low, high = (
            sum(part.seconds * part.spread**sign for part in parts) / 3600 for sign in (0, -1, 1)
        )
        disk = sum(_median(self._similar(run), "disk_mb", _GUESSED_DISK) for run in packed)
        source = "counted operations and what other networks took here"
        if not self._pace.get(self._kinds_of(packed[0]).device):
            source = models[0].rates.source
        memory = self._memory(packed, models)
        return Cost(hours, memory, disk, measured / len(packed), low, high, source)

    def num_images(self, run: Run) -> float:
        """Return how many images an epoch of a run takes, as far as that is known."""
        recipe = run.recipe
        if recipe.steps_per_epoch is not None:
            return recipe.steps_per_epoch * recipe.batch_size
        usual = described(run.dataset.name, run.dataset.own).num_train
        known = self._images.get(run.dataset.digest, usual)
        return max(1.0, known - recipe.holdout)

    def _kinds_of(self, run: Run) -> _Kinds:
        """Return what a run is like, asked once: plans ask several times for thousands of runs."""
        if not self._seen:
            return _Kinds()
        if run.key not in self._kinds:
            cell = run.to_json()
            self._kinds[run.key] = _Kinds(_kinds(cell), _teacher_kind(cell), _device_kind(cell))
        return self._kinds[run.key]

    def _similar(self, run: Run) -> Sequence[_Seen]:
        kinds = self._kinds_of(run).closest
        return next((self._seen[kind] for kind in kinds if kind in self._seen), ())

    def _part(self, seen: Sequence[_Seen], field: str, run: Run, guess: _Part) -> _Part:
        """Return the seconds of an epoch by what was measured, on as many images as there are."""
        if not seen:
            return guess
        images = self.num_images(run)
        found = [getattr(s, field) * (images / s.images if s.images else 1.0) for s in seen]
        middle = statistics.median(found)
        if middle <= 0:
            return _Part(middle, _MEASURED_SPREAD)
        widest = max(max(found) / middle, middle / max(min(found), middle / 4))
        return _Part(middle, max(_MEASURED_SPREAD, widest))

    def _memory(self, packed: Sequence[Run], models: Sequence[Modelled]) -> float:
        """Return the megabytes of the process: measured, else as its networks were counted.

        A larger pack than was measured is taken to need as much more: more than it will, since
        a part of it is shared.
        """
        peaks = [
            statistics.median(found)
            for run in packed
            if (
                found := [
                    seen.peak_mb * max(1.0, len(packed) / seen.packed)
                    for seen in self._similar(run)
                    if seen.peak_mb is not None
                ]
            )
        ]
        if len(peaks) == len(packed):
            return max(peaks)
        return max([process_mb(models, packed[0].recipe.device), *peaks])


def read_history(runs_dir: Path, data_dir: Path | None = None) -> History:
    """Take the newest results below ``runs_dir``; damaged and foreign ones are passed over.

    ``data_dir``: where the datasets lie whose size is to be known.
    """
    index = RunIndex(runs_dir)
    index.refresh()
    cells = index.all_cells()
    measured = (run for run in index.all_runs() if run.measured is not None)
    found: dict[Kind, list[_Seen]] = {}
    paces: dict[Kind, list[float]] = {}
    images: dict[str, float] = {}
    for run in heapq.nlargest(_READ_AT_MOST, measured, key=lambda run: run.ended):
        assert run.measured is not None
        like = _run_like(cells[run.cell])
        if like is None:
            continue
        cell = like.to_json()
        seen = _Seen(*run.measured, _disk_mb(runs_dir / run.key))
        kinds = _kinds(cell)
        kinds += [] if seen.teacher is None else [_teacher_kind(cell)]
        for kind in kinds:
            found.setdefault(kind, []).append(seen)
        if seen.images:
            images.setdefault(cell["dataset"]["digest"], seen.images + cell["recipe"]["holdout"])
            pace = _pace(like, seen)
            if pace is not None:
                paces.setdefault(_device_kind(cell), []).append(pace)
    images |= _sizes(data_dir)
    return History(found, images, {k: statistics.median(values) for k, values in paces.items()})


def _sizes(data_dir: Path | None) -> dict[str, float]:
    """Return the number of training images of every dataset, by digest: official or at hand."""
    found: dict[str, float] = {}
    for name, info in DATASETS.items():
        if info.official_digest:
            found[info.official_digest] = info.num_train
        with contextlib.suppress(UserError):
            sidecar = read_sidecar(name, data_dir) if data_dir is not None else None
            if sidecar is not None and data_dir is not None:
                digest = dataset_identity(name, data_dir)["digest"]
                found[digest] = sidecar.splits["train"].num_samples
    return found


def _run_like(cell: dict[str, Any]) -> Run | None:
    """Return a run of a cell; None for a cell of another version of this code."""
    known: dict[str, Any] = {"seed": 0, **cell}
    if known["teacher"]:
        known["teacher"] = {"key": "", **known["teacher"]}
    try:
        return Run.model_validate_json(json.dumps(known))
    except ValidationError:
        return None


def _pace(run: Run, seen: _Seen) -> float | None:
    """Return how many times as long as its counts say a run took; None if it cannot be told."""
    try:
        counted = Modelled(run, seen.images or 1.0).epoch().student
    except (UserError, ArithmeticError):  # data of another version, or sizes beyond all measure
        return None
    return seen.student / counted if counted > 0 and seen.student > 0 else None


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


def _device_kind(cell: dict[str, Any]) -> Kind:
    """What makes two runs equally fast by their counts."""
    recipe = cell["recipe"]
    return ("device", recipe["device"], str(recipe["threads"]), recipe["precision"])


def _times(epochs: int, part: _Part) -> _Part:
    return part._replace(seconds=epochs * part.seconds)


def _teacher_of(cell: dict[str, Any]) -> str:
    teacher = cell["teacher"]
    if not teacher:
        return ""
    size = teacher.get("input_size")
    return teacher["model"] if size is None else f"{teacher['model']}, {size}"


def _median(seen: Sequence[_Seen], field: str, guess: float) -> float:
    return statistics.median(getattr(item, field) for item in seen) if seen else guess
