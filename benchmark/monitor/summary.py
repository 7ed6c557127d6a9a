"""How tables stand: cells and runs by state, hours, speed, what failed, what is stuck. Pure.

Imports no torch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.monitor.failures import Failed, FailureGroup, group
from benchmark.monitor.forecast import Forecast, Left, forecast
from benchmark.monitor.look import Seen, Wanted
from benchmark.monitor.metrics import TableMetrics
from benchmark.monitor.standing import Standing, cell_state
from benchmark.run.reading import Reading
from benchmark.run.state import LIVING, RunState

HELD_BY_SLURM = "held by Slurm"


@dataclass(frozen=True)
class Silent:
    """A run that is stuck or slow: for how many seconds, who holds it, how far it is."""

    run: str
    seconds: float
    holder: str
    progress: str


@dataclass(frozen=True)
class TableStatus:
    """One table at one moment.

    ``cells``, ``runs``: counts by state. ``requeued``: runs that wait to start again, by the
    reason; ``held``: runs that are held, by the reason; ``waiting``: the other queued runs, by
    what Slurm says they wait for. ``hours``, ``gpu_hours``: of tasks so
    far, lost work included if sacct knows it; ``..._left``: of what runs and waits, None
    if nothing was measured yet. ``ends``: seconds since 1970. ``changed``: runs that were
    submitted with other settings than the table's own. ``planned``: whether it is known what
    the table holds; if it is not, nothing can be told to be missing.
    """

    table: str
    cells: Mapping[str, int]
    runs: Mapping[str, int]
    requeued: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    hours: float = 0.0
    gpu_hours: float = 0.0
    hours_left: float | None = None
    gpu_hours_left: float | None = None
    ends: float | None = None
    images_per_second: float = 0.0
    heartbeat_age: float | None = None
    restarts: int = 0
    changed: int = 0
    planned: bool = False
    failures: tuple[FailureGroup, ...] = ()
    damaged: tuple[FailureGroup, ...] = ()
    stopped: tuple[FailureGroup, ...] = ()
    stuck: tuple[Silent, ...] = ()
    slow: tuple[Silent, ...] = ()

    @property
    def metrics(self) -> TableMetrics:
        """What Prometheus is told."""
        return TableMetrics(
            table=self.table,
            cells=self.cells,
            planned=self.planned,
            gpu_hours=self.gpu_hours,
            images_per_second=self.images_per_second,
            heartbeat_age=self.heartbeat_age,
            restarts=self.restarts,
        )


@dataclass(frozen=True)
class Status:
    """All tables, and what should be known about how old or incomplete this is."""

    runs_dir: Path
    tables: Sequence[TableStatus]
    taken: float
    warnings: tuple[str, ...] = ()


def summarise(seen: Seen, wanted: Iterable[Wanted] = ()) -> list[TableStatus]:
    """Return how each table stands that was looked at."""
    plans = {plan.table: plan.cells for plan in wanted}
    return [_table(name, keys, seen, plans.get(name)) for name, keys in seen.tables.items()]


def _table(
    name: str, keys: tuple[str, ...], seen: Seen, planned: Mapping[str, str] | None
) -> TableStatus:
    standings = {key: seen.standings[key] for key in keys}
    readings = {key: seen.readings[key] for key in keys}
    running = [key for key in keys if standings[key].name is RunState.RUNNING]
    held = [*running, *(key for key, standing in standings.items() if standing.stuck)]
    beats = [v.silence for key in held if (v := readings[key]).silence is not None]
    speeds = [p.images_per_second for key in running if (p := readings[key].progress)]
    seconds, gpu_seconds = _used(name, keys, readings, seen)
    left = _left(running, standings, readings, seen)
    gpus = _gpus_a_task(keys, readings, seen)
    return TableStatus(
        table=name,
        cells=_cells(keys, standings, readings, seen.cells),
        runs=Counter(standing.name for standing in standings.values()),
        requeued=Counter(s.reason for s in standings.values() if s.requeued),
        held=Counter(
            _why_held(key, s, seen) for key, s in standings.items() if s.name is RunState.HELD
        ),
        waiting=Counter(
            s.reason
            for s in standings.values()
            if s.name is RunState.QUEUED and s.reason and not s.requeued
        ),
        hours=seconds / 3600,
        gpu_hours=gpu_seconds / 3600,
        hours_left=left.hours,
        gpu_hours_left=None if left.hours is None else left.hours * gpus,
        ends=None if left.seconds is None else time.time() + left.seconds,
        images_per_second=sum(speeds),
        heartbeat_age=max(beats, default=None),
        restarts=sum(v.restarts for v in readings.values()),
        planned=planned is not None,
        changed=0 if planned is None else sum(key not in planned for key in keys),
        failures=group(_ended(standings, RunState.FAILED, seen)),
        damaged=group(_ended(standings, RunState.DAMAGED, seen)),
        stopped=group(_ended(standings, RunState.STOPPED, seen)),
        stuck=tuple(_silent(k, s.stuck, readings[k]) for k, s in standings.items() if s.stuck),
        slow=tuple(_silent(k, s.slow, readings[k]) for k, s in standings.items() if s.slow),
    )


def _cells(
    keys: Iterable[str],
    standings: Mapping[str, Standing],
    readings: Mapping[str, Reading],
    known: Mapping[str, str],
) -> Counter[str]:
    states: dict[str, list[RunState]] = {}
    for key in keys:
        # A run of no submission is a cell of its own until its result names the cell.
        cell = known.get(key) or readings[key].cell or key
        states.setdefault(cell, []).append(standings[key].name)
    return Counter(cell_state(names) for names in states.values())


def _used(
    name: str, keys: Iterable[str], readings: Mapping[str, Reading], seen: Seen
) -> tuple[float, float]:
    """Seconds of tasks and of GPUs so far: Slurm's where it counts, else what runs recorded."""
    seconds = gpu_seconds = 0.0
    if seen.snapshot is not None and seen.counted_by_slurm:
        for work in seen.packs:
            if work.table != name or work.place is None:
                continue
            ended = seen.snapshot.ended.get(work.place)
            if ended is not None:
                seconds += ended.elapsed
                # A cluster whose AccountingStorageTRES lacks gres/gpu counts none.
                gpu_seconds += ended.gpu_seconds or ended.elapsed * work.array.gpus
            if work.start is not None and work.state.name == "running":
                elapsed = max(0.0, seen.snapshot.taken - work.start)
                seconds += elapsed
                gpu_seconds += elapsed * work.gpus
    for key in keys:
        found = seen.works.get(key)
        if found is None or not found.in_slurm or not seen.counted_by_slurm:
            seconds += readings[key].own_seconds
            gpu_seconds += readings[key].own_seconds * readings[key].gpu
    return seconds, gpu_seconds


def _left(
    running: Iterable[str],
    standings: Mapping[str, Standing],
    readings: Mapping[str, Reading],
    seen: Seen,
) -> Forecast:
    costs = []
    for key, standing in standings.items():
        progress = readings[key].progress
        if standing.name is RunState.DONE and readings[key].own_seconds:
            costs.append(readings[key].own_seconds)
        elif progress is not None:
            costs.append(progress.own * progress.epochs)
    lefts, tasks = [], set()
    for key in running:
        work, progress = seen.works.get(key), readings[key].progress
        tasks.add((work.task if work else None) or readings[key].holder)
        epochs = max(0, progress.epochs - progress.epoch) if progress else 0
        lefts.append(
            Left(epochs * progress.own, epochs * progress.seconds) if progress else Left(None, None)
        )
    waiting = sum(s.name in LIVING - {RunState.RUNNING} for s in standings.values())
    return forecast(lefts, waiting, costs, len(tasks))


def _gpus_a_task(keys: Iterable[str], readings: Mapping[str, Reading], seen: Seen) -> int:
    asked = [seen.works[key].gpus for key in keys if key in seen.works]
    return max([*asked, *(int(readings[key].gpu) for key in keys)], default=0)


def _why_held(key: str, standing: Standing, seen: Seen) -> str:
    work = seen.works[key]
    if work.held:
        return work.held
    return f"{HELD_BY_SLURM}: {standing.reason}" if work.in_slurm else standing.reason


def _ended(standings: Mapping[str, Standing], name: RunState, seen: Seen) -> Iterable[Failed]:
    for key, standing in standings.items():
        if standing.name == name:
            work = seen.works.get(key)
            log, task = (work.log, work.task) if work else (None, None)
            yield Failed(key, standing.reason, log, task)


def _silent(key: str, seconds: float | None, reading: Reading) -> Silent:
    progress = reading.progress
    told = f"epoch {progress.epoch}/{progress.epochs}" if progress else "no epoch yet"
    return Silent(key, seconds or 0.0, reading.holder, told)
