"""Refuse, before anything is queued, what would fail later.

torch is imported only if files have to be read that need it: public checkpoints, trained
teachers, and checkpoints of runs that are to be continued.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from benchmark.base.errors import UserError, unknown
from benchmark.base.files import existing_place
from benchmark.data.augmentations import READERS, check_reader
from benchmark.data.datasets import described, image_side
from benchmark.methods.catalog import method_info
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import check_exclusive
from benchmark.run.reading import read
from benchmark.run.state import ENDED, RunState
from benchmark.table.own_teachers import FileOfTeacher


def check_before_queue(
    runs: Collection[Run],
    data_dir: Path,
    runs_dir: Path,
    reader: str | None = None,
    files: Mapping[str, FileOfTeacher] | None = None,
) -> None:
    """Refuse what none of the runs could be trained from.

    That is a reader that does not fit, data that are missing or damaged, public teachers and
    ``files`` of the user's own that do not load, and a runs directory that cannot be written.
    Raises UserError.
    """
    from benchmark.data.verify import check_content

    if reader is not None:
        _check_reader(runs, reader)
    for name in sorted({run.dataset.name for run in runs}):
        check_content(name, data_dir)
    _check_public_teachers(runs, data_dir)
    _check_own_teachers(runs, data_dir, files or {})
    check_exclusive(_check_writable(runs_dir))


def refusals(
    runs: Iterable[Run], runs_dir: Path, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return why runs cannot be trained, by key, one run's directory not being another's fault.

    It was renamed, edited, damaged or cannot be written; its checkpoint is damaged; its trained
    teacher is damaged, diverged or refused itself. ``known``: what was refused
    before, which is among what is returned.
    """
    found = dict(known or {})
    taught: dict[str, str] = {}
    for run in runs:  # teachers first
        teacher = run.teacher
        try:
            _check_run_directory(RunDir(runs_dir, run.key), run)
            if teacher is not None and teacher.source == "train":
                if teacher.key not in taught:
                    taught[teacher.key] = found.get(teacher.key) or _teacher_problem(run, runs_dir)
                if taught[teacher.key]:
                    raise UserError(taught[teacher.key])
        except UserError as error:
            found[run.key] = str(error)
    return found


def _teacher_problem(run: Run, runs_dir: Path) -> str:
    """Return why a run's trained teacher cannot teach; empty if it can or is not there yet."""
    assert run.teacher is not None
    if read(RunDir(runs_dir, run.teacher.key)).state not in {*ENDED, RunState.DAMAGED}:
        return ""
    from benchmark.train.teacher import check_trained

    try:
        check_trained(run, runs_dir)
    except UserError as error:
        return str(error)
    return ""


def _check_reader(runs: Iterable[Run], reader: str) -> None:
    if reader not in READERS:
        raise unknown("reader", reader, READERS, "--reader")
    for name in sorted({run.recipe.augmentation for run in runs}):
        check_reader(name, reader)
    asking = {
        m.name for run in runs for m in run.methods if method_info(m.name).companions(m.options)
    }
    if reader != "resident" and asking:
        raise UserError(
            f"{', '.join(sorted(asking))}: the {reader} reader has no further images of a step; use"
            " --reader resident"
        )


def _check_run_directory(rundir: RunDir, run: Run) -> None:
    found = read(rundir)
    if found.state is RunState.DAMAGED:
        raise UserError(f"{found.reason}; move {rundir.path} away to train it anew")
    if not rundir.path.exists():
        return
    _check_writable(rundir.path)
    rundir.check(run)
    if rundir.checkpoint.exists() or rundir.previous_checkpoint.exists():
        from benchmark.train import state

        state.check(rundir)


def _check_public_teachers(runs: Collection[Run], data_dir: Path) -> None:
    """Refuse public checkpoints that cannot be loaded into the network that they are for."""
    used = {(run.dataset.name, run.model) for run in runs if run.weights and not run.reads}
    used |= {
        (run.dataset.name, run.teacher.model)
        for run in runs
        if run.teacher and run.teacher.source == "registry"
    }
    if used:
        from benchmark.train.verify import check_checkpoint

        for dataset, model in sorted(used):
            check_checkpoint(dataset, model, data_dir)


def _check_own_teachers(
    runs: Collection[Run], data_dir: Path, files: Mapping[str, FileOfTeacher]
) -> None:
    """Refuse files of the user's own that do not fit their network, or do not know the classes."""
    used = set()
    for run in runs:
        info = described(run.dataset.name, run.dataset.own)
        if run.teacher is not None and run.teacher.reads:
            side = run.teacher_input_size or run.recipe.crop_size or info.image_size
            used.add((run.dataset.name, run.teacher.model, run.teacher.key, side))
        if run.weights and run.reads:
            used.add((run.dataset.name, run.model, run.weights, image_side(info, run.recipe)))
    if used:
        from benchmark.train.own_teacher import check_file

        for each in sorted(used):
            check_file(*each, files, data_dir)


def _check_writable(path: Path) -> Path:
    """Refuse a directory that cannot be written, or made; return what there is of its path."""
    place = existing_place(path)
    if not place.is_dir():
        raise UserError(f"{place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{place} is not writable")
    return place
