"""The page for operators: what waits and why, when cells end, what failed, what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from benchmark.base.words import count, duration
from benchmark.monitor.standing import Standing
from benchmark.monitor.summary import TableStatus
from benchmark.run.reading import Reading
from benchmark.run.state import LIVING, RunState
from benchmark.site.gather import Gathered

_LABELS = {"failures": "failed", "damaged": "damaged", "stopped": "stopped"}


class CellLeft(NamedTuple):
    """A cell that has runs in the queue, and when it may be done.

    ``left`` is None if nothing like it was measured; ``sort`` orders by it.
    """

    table: str
    name: str
    states: str
    progress: str
    left: str
    sort: float
    why: str
    runs: tuple[tuple[str, int], ...]
    unstarted: int


def values(gathered: Gathered, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template shows."""
    return {
        "statuses": gathered.statuses,
        "states": [s for s in RunState if any(t.runs.get(s) for t in gathered.statuses)],
        "cells": list(_cells(gathered, pages)),
        "causes": [
            (status.table, label, group, [(key, pages.get(key)) for key in group.runs])
            for status in gathered.statuses
            for name, label in _LABELS.items()
            for group in getattr(status, name)
        ],
        "silent": [
            (status.table, kind, item, pages.get(item.run))
            for status in gathered.statuses
            for kind in ("stuck", "slow")
            for item in getattr(status, kind)
        ],
        "ends": {status.table: _ends(status) for status in gathered.statuses},
        "warnings": gathered.seen.warnings,
        "taken": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(gathered.taken)),
    }


def _ends(status: TableStatus) -> str:
    if not any(status.runs.get(state) for state in LIVING):
        return ""
    if status.ends is None:
        return "not known yet"
    return time.strftime("%a %d %b %H:%M", time.localtime(status.ends))


def _cells(gathered: Gathered, pages: Mapping[str, str]) -> Iterator[CellLeft]:
    """Yield the cells with runs that run or wait, those that end first before the others."""
    seen = gathered.seen
    costs = _costs(gathered)
    found = []
    for table, keys in seen.tables.items():
        cells: dict[str, list[str]] = {}
        for key in keys:
            if seen.standings[key].name in LIVING:
                cells.setdefault(seen.cells.get(key) or seen.readings[key].cell or key, []).append(
                    key
                )
        for cell, members in cells.items():
            runs = [(seen.readings[key], seen.standings[key]) for key in members]
            left = _left(runs, costs.get(cell) or costs.get(table))
            found.append(_line(table, cell, runs, left, pages))
    yield from sorted(found, key=lambda line: (line.table, line.sort, line.name))


def _costs(gathered: Gathered) -> dict[str, float]:
    """Return the mean seconds of a run, as far as they are measured, by cell and by table."""
    seen = gathered.seen
    known: dict[str, list[float]] = {}
    for table, keys in seen.tables.items():
        for key in keys:
            run = seen.readings[key]
            if run.state is RunState.DONE:
                cost = run.own_seconds
            else:
                cost = run.progress.own * run.progress.epochs if run.progress else 0.0
            for name in (table, run.cell) if cost > 0 else ():
                known.setdefault(name, []).append(cost)
    return {name: fmean(values) for name, values in known.items()}


def _left(runs: list[tuple[Reading, Standing]], typical: float | None) -> float | None:
    """Return the seconds until the last run of a cell may end if all ran now; None: unknown."""
    lefts = []
    for run, _ in runs:
        if run.progress is not None:
            lefts.append(max(0, run.progress.epochs - run.progress.epoch) * run.progress.seconds)
        elif typical is not None:
            lefts.append(typical)
        else:
            return None
    return max(lefts, default=None)


def _line(
    table: str,
    cell: str,
    runs: list[tuple[Reading, Standing]],
    left: float | None,
    pages: Mapping[str, str],
) -> CellLeft:
    names = [standing.name for _, standing in runs]
    waits = RunState.RUNNING not in names
    states = ", ".join(f"{names.count(s)} {s}" for s in RunState if s in names)
    far = [f"{r.progress.epoch} of {r.progress.epochs}" for r, _ in runs if r.progress]
    said = "not known yet" if left is None else duration(left)
    reasons = dict.fromkeys(s.reason for _, s in runs if s.reason)
    return CellLeft(
        table=table,
        name=cell.rpartition("-")[0] or cell,
        states=states,
        progress=f"epoch {', '.join(far)}" if far else "not started",
        left=f"about {said} once it starts" if waits and left is not None else said,
        sort=1e9 if left is None else left + 1e6 * waits,
        why="; ".join(reasons) or ("waits for its turn" if waits else ""),
        runs=tuple((pages[run.key], run.seed) for run, _ in runs if run.key in pages),
        unstarted=sum(run.key not in pages for run, _ in runs),
    )


def alarm(status: TableStatus) -> str:
    """Return in a few words what of a table needs a person, empty for nothing."""
    failed = sum(len(group.runs) for group in (*status.failures, *status.damaged))
    parts = [f"{count(failed, 'run')} failed"] if failed else []
    parts += [f"{count(len(status.stuck), 'run')} stuck"] if status.stuck else []
    return ", ".join(parts)
