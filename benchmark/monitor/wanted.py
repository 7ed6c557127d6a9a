"""What a table asks for, so that status can say what is missing. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.machine import default_device
from benchmark.monitor.look import Wanted
from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.submission.sent import cleaned_runs, local_work, slurm_work
from benchmark.table.load import load_table, table_files
from benchmark.table.selection import Selection

DEVICES = ("cuda", "cpu")


def wanted_runs(name: str, data_dir: Path, known: Collection[str]) -> Wanted:
    """Return the cells of a table's runs.

    If a recipe leaves the device to the machine, the table is expanded for the kind of
    device that most of its ``known`` runs were submitted for: a login node has none.
    Raises UserError for an unknown or broken table.
    """
    table = load_table(name)
    best: dict[str, str] = {}
    most = -1
    for device in sorted(DEVICES, key=lambda device: device != default_device()):
        cells = _cells(make_plan(table, Selection(), Context(data_dir, device)))
        found = sum(key in known for key in cells)
        if found > most:
            best, most = cells, found
        if most == len(known):
            break
    return Wanted(table.name, best)


def submitted_plans(runs_dir: Path, data_dir: Path) -> list[Wanted]:
    """Return what the tables hold that this user submitted from a runs directory.

    Those are left out whose file is not known, does not load, or holds none of the runs that
    were submitted under its name.
    """
    keys = {name: set(runs) for name, runs in cleaned_runs(runs_dir).items()}
    for work in (*local_work(runs_dir), *slurm_work(runs_dir)):
        keys.setdefault(work.table, set()).update(work.keys)
    found = []
    for name in sorted(keys.keys() & table_files().keys()):
        with contextlib.suppress(UserError):
            plan = wanted_runs(name, data_dir, keys[name])
            if plan.table == name and not keys[name].isdisjoint(plan.cells):
                found.append(plan)
    return found


def table_name(name: str, submitted: Collection[str]) -> str:
    """Return the name of a table given by name or path; one that was submitted needs no file.

    Raises UserError with the nearest guess.
    """
    if name in submitted:
        return name
    try:
        return load_table(name).name
    except UserError:
        if Path(name).stem in submitted:
            return Path(name).stem
        raise


def _cells(plan: Plan) -> dict[str, str]:
    return {run.key: run.cell_key for run in plan.runs}
