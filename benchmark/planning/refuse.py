"""Refuse, before anything is queued, what would fail later.

torch is imported only where files have to be read that need it: public checkpoints, trained
teachers, and checkpoints of runs that are to be continued.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from benchmark.base.errors import UserError, unknown
from benchmark.base.files import existing_place
from benchmark.data.augmentations import READERS, check_reader
from benchmark.methods.catalog import method_info
from benchmark.planning.matrix import Plan
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import check_exclusive
from benchmark.run.reading import read
from benchmark.run.state import ENDED


def check_before_queue(
    plan: Plan, data_dir: Path, runs_dir: Path, reader: str | None = None
) -> None:
    """Refuse a table that cannot be trained, and what its runs could not be trained from.

    That is a reader that does not fit, data that are missing or damaged, public teachers that do
    not load, and a runs directory that cannot be written.
    Raises UserError.
    """
    from benchmark.data.verify import check_content

    if not plan.table.trainable:
        raise UserError(
            f"table {plan.table.name} can be shown and collected, but its protocol cannot be"
            " trained yet"
        )
    if reader is not None:
        _check_reader(plan, reader)
    for name in sorted({run.dataset.name for run in plan.runs}):
        check_content(name, data_dir)
    _check_public_teachers(plan, data_dir)
    _check_writable(runs_dir)


def check_files(runs: Iterable[Run], runs_dir: Path) -> None:
    """Refuse checkpoints that ``runs`` could not continue from, and damaged trained teachers.

    Raises UserError.
    """
    started, taught = [], {}
    for run in runs:
        rundir = RunDir(runs_dir, run.key)
        if rundir.checkpoint.exists() or rundir.previous_checkpoint.exists():
            started.append(rundir)
        teacher = run.teacher
        if teacher is None or teacher.source != "train":
            continue
        if read(RunDir(runs_dir, teacher.key)).state in ENDED:
            taught[teacher.key] = run
    if not started and not taught:
        return
    from benchmark.data.datasets import dataset_info
    from benchmark.train import state
    from benchmark.train.teacher import load_teacher

    for rundir in started:
        state.check(rundir)
    for run in taught.values():
        load_teacher(run, dataset_info(run.dataset.name).num_classes, runs_dir)


def _check_reader(plan: Plan, reader: str) -> None:
    if reader not in READERS:
        raise unknown("reader", reader, READERS, "--reader")
    for name in sorted({run.recipe.augmentation for run in plan.runs}):
        check_reader(name, reader)
    asking = {
        m.name
        for run in plan.runs
        for m in run.methods
        if method_info(m.name).companions(m.options)
    }
    if reader != "resident" and asking:
        raise UserError(
            f"{', '.join(sorted(asking))}: the {reader} reader has no further images of a step; use"
            " --reader resident"
        )


def _check_public_teachers(plan: Plan, data_dir: Path) -> None:
    """Refuse public checkpoints that cannot be loaded into the network that they are for."""
    used = {(run.dataset.name, run.model) for run in plan.runs if run.weights}
    used |= {
        (run.dataset.name, run.teacher.model)
        for run in plan.runs
        if run.teacher and run.teacher.source == "registry"
    }
    if used:
        from benchmark.train.verify import check_checkpoint

        for dataset, model in sorted(used):
            check_checkpoint(dataset, model, data_dir)


def _check_writable(path: Path) -> None:
    """Refuse a directory that cannot be written, or made; nothing is made."""
    place = existing_place(path)
    if not place.is_dir():
        raise UserError(f"{place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{place} is not writable")
    check_exclusive(place)
