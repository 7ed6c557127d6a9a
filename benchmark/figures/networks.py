"""Trained networks on test images: what some kinds of figures look at.

Of a row the finished run of the lowest seed is looked into, and the same images are shown to all
networks of a column, teacher first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.log import say
from benchmark.data.datasets import require_dataset
from benchmark.data.open import open_batches
from benchmark.figures.drawing import FigureSource
from benchmark.models.features import Features
from benchmark.planning.own_files import find_file
from benchmark.results.grid import GridColumn
from benchmark.results.render.layout import row_label
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run, TeacherRef
from benchmark.table.own_teachers import FileOfTeacher
from benchmark.train.teacher import load_teacher
from benchmark.train.trained import load_student

TEACHER = "Teacher"
_BATCH = 250
MAPS = 8  # images of which maps are kept


class Images(NamedTuple):
    """Test images [N, C, H, W] normalised as in training, and their labels [N]."""

    images: Tensor
    labels: Tensor


class LookedAt(NamedTuple):
    """What one network makes of the images.

    ``name``: its row; ``run``: its key, or the teacher's; logits [N, K], pooled [N, D];
    ``stages``: the last maps of the first images, [n, C, H, W] each, shallow ones first.
    """

    name: str
    run: str
    logits: Tensor
    pooled: Tensor
    stages: tuple[Tensor, ...]


class LookedColumn(NamedTuple):
    """A column's networks on the same images; ``networks`` has the teacher first, if any."""

    column: GridColumn
    images: Images
    networks: tuple[LookedAt, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that were looked into, a public teacher left out."""
        return tuple(dict.fromkeys(one.run for one in self.networks if one.run))


def columns(
    source: FigureSource, classes: int | None = None, methods: bool = True
) -> Iterator[LookedColumn]:
    """Yield the columns that have finished runs; a network that cannot be read is said.

    ``classes``: of so many alone are images taken; without ``methods`` the teacher alone is looked
    into. What one kind has looked at, the next ones are told again.
    """
    for column in source.grid.columns:
        rows = [
            (row, source.first_done(row.name, column.name))
            for row in source.grid.rows
            if row.kind in ("student", "method")
        ]
        done = [(row_label(row), one.key) for row, one in rows if one is not None]
        runs = [RunDir(source.runs_dir, key).read_run() for _, key in done]
        if not runs:
            continue
        images = shown_images(runs[0], source, classes)
        look = partial(_look, source, (column.name, classes), images)
        found = []
        taught = next((run for run in runs if run.teacher is not None), None)
        if taught is not None:
            found += look(TEACHER, partial(_teacher, taught, source))
        for name, key in done if methods else ():
            found += look(name, partial(_student, key, source))
        if found:
            yield LookedColumn(column, images, tuple(found))


_Network = tuple[str, Callable[[Tensor], tuple[Tensor, Features]]]


def _student(key: str, source: FigureSource) -> _Network:
    network = load_student(RunDir(source.runs_dir, key))

    def see(images: Tensor) -> tuple[Tensor, Features]:
        features = network.features(images)
        return features.logits if network.predictor is None else network(images), features

    return key, see


def _teacher(run: Run, source: FigureSource) -> _Network:
    assert run.teacher is not None
    sidecar = require_dataset(run.dataset.name, source.data_dir)
    own = _own_files(run.teacher, source)
    found = load_teacher(_on_cpu(run), sidecar.num_classes, source.runs_dir, sidecar.classes, own)
    key = run.teacher.key if run.teacher.source == "train" else ""

    def see(images: Tensor) -> tuple[Tensor, Features]:
        features = found.network.features(images)
        return features.logits, features

    return key, see


def _own_files(teacher: TeacherRef, source: FigureSource) -> dict[str, FileOfTeacher]:
    """Return the file of the user's own that taught, by its sha256; UserError for another one."""
    given = source.teachers.get(teacher.model)
    if teacher.reads is None:
        return {}
    if given is None:
        raise UserError(
            f"a file of your own taught: --teacher {teacher.model}=FILE says where it is"
        )
    found = find_file(teacher.model, given, "--teacher")
    if found.sha256 != teacher.key:
        raise UserError(
            f"{found.file.path} (sha256 {found.sha256[:12]}) is not the file that taught"
            f" ({teacher.key[:12]})"
        )
    return {found.sha256: found.file}


def _on_cpu(run: Run) -> Run:
    return run.model_copy(update={"recipe": run.recipe.model_copy(update={"device": "cpu"})})


def _look(
    source: FigureSource,
    where: tuple[str, int | None],
    images: Images,
    name: str,
    load: Callable[[], _Network],
) -> list[LookedAt]:
    if (*where, name) not in source.looked:
        source.looked[(*where, name)] = _look_anew(images, name, load)
    found: list[LookedAt] = source.looked[(*where, name)]
    return found


def _look_anew(images: Images, name: str, load: Callable[[], _Network]) -> list[LookedAt]:
    try:
        key, see = load()
    except UserError as error:
        say(f"{name} is left out: {error}")
        return []
    logits: list[Tensor] = []
    pooled: list[Tensor] = []
    stages: list[list[Tensor]] = []
    with torch.no_grad():
        for part in torch.split(images.images, _BATCH):
            said, features = see(part)
            logits.append(said.float())
            pooled.append(features.pooled.float())
            left = MAPS - _BATCH * len(stages)
            if left > 0:
                stages.append([s[:left].float() for s in features.stages if s.ndim == 4])
    kept = tuple(torch.cat(same) for same in zip(*stages, strict=True)) if stages else ()
    return [LookedAt(name, key, torch.cat(logits), torch.cat(pooled), kept)]


def shown_images(run: Run, source: FigureSource, classes: int | None = None) -> Images:
    """Return test images as a run's network saw them, spread evenly over the test set.

    Of ``classes`` evenly chosen classes alone, if given.
    """
    augmentation, recipe = run.recipe.augmentation, run.recipe
    batches = open_batches(
        run.dataset.name,
        source.data_dir,
        seed=0,
        batch_size=1,
        augmentation=augmentation,
        crop_size=recipe.crop_size,
        test_interpolation=recipe.test_interpolation,
    )
    wanted = torch.arange(batches.num_classes)
    if classes is not None and classes < len(wanted):
        wanted = wanted[torch.linspace(0, len(wanted) - 1, classes).round().long()]
    images, labels = [], []
    for batch in batches.test(_BATCH):
        mine = torch.isin(batch.labels, wanted)
        images.append(batch.images[mine])
        labels.append(batch.labels[mine])
    every, of = torch.cat(images), torch.cat(labels)
    count = min(source.images, len(of))
    places = torch.linspace(0, len(of) - 1, count).round().long()
    return Images(every[places], of[places])
