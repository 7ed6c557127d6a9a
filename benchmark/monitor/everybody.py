"""What everybody's jobs of this project do, for operators: from names and comments alone.

No run directory is read, so it works on a machine that sees none. Tasks that have ended are
those of tables that this installation knows, of the last day. Imports no torch.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmark.base.errors import unknown
from benchmark.slurm import commands, queue_cache
from benchmark.slurm.notation import Tag
from benchmark.slurm.queue import QueueSnapshot
from benchmark.table.load import table_files

SCHEMA = 1
_DAY = 24 * 3600.0
_LIVING = ("running", "waiting", "requeued")
COLUMNS = (*_LIVING, "completed", "failed")


@dataclass
class Share:
    """One user's tasks of one table: counts by state, GPUs in use, GPU-hours of a day.

    ``gpu_hours``: None if this cluster does not count GPUs, so that those of what has ended are
    not known.
    """

    user: str
    table: str
    tasks: Counter[str] = field(default_factory=Counter)
    gpus: int = 0
    gpu_hours: float | None = 0.0


def shares(snapshot: QueueSnapshot, table: str | None = None, counted: bool = True) -> list[Share]:
    """Return what each user has of each table, the busiest first.

    ``counted``: whether this cluster counts GPUs.
    """
    found: dict[tuple[str, str], Share] = {}
    hours: defaultdict[tuple[str, str], float] = defaultdict(float)

    def share(user: str, name: str) -> Share:
        return found.setdefault((user, name), Share(user, name))

    in_queue: set[tuple[int, int]] = set()
    for record in snapshot.queued:
        mine = share(record.user, record.tag.table)
        past = snapshot.ended.get((record.job, min(record.tasks, default=0)))
        if record.ending and past is not None and past.ended is not None:
            continue  # counted below
        state = "running" if record.ending else record.task_state.name
        mine.tasks[state] += len(record.tasks)
        in_queue.update((record.job, number) for number in record.tasks if record.restarts)
        if record.start is not None and not record.waiting:
            mine.gpus += record.gpus
            seconds = record.gpus * max(0.0, snapshot.taken - record.start)
            hours[mine.user, mine.table] += seconds / 3600
    for key, ended in snapshot.ended.items():
        mine = share(ended.user, ended.tag.table)
        hours[mine.user, mine.table] += ended.gpu_seconds / 3600
        # A task whose node failed and that waits to run again has not ended.
        if key not in in_queue and ended.state in ("COMPLETED", "CANCELLED"):
            mine.tasks[ended.state.lower()] += 1
        elif key not in in_queue and ended.ended is not None:
            mine.tasks["failed"] += 1
    for place, item in found.items():
        item.gpu_hours = hours[place] if counted else None
    wanted = [item for item in found.values() if table in (None, item.table)]
    return sorted(wanted, key=lambda s: (-s.tasks["running"], -s.tasks["waiting"], s.user, s.table))


class Everybody(NamedTuple):
    """Everybody's tasks at one moment, the busiest users first, and what should be known of it."""

    found: list[Share]
    warnings: list[str]


def read_everybody(table: str | None = None, max_age: float = 0.0) -> Everybody:
    """Return everybody's tasks, of one table or all; ``max_age``: seconds the queue may be old.

    Raises SlurmError if Slurm is silent, UserError for a table that neither this installation
    nor the queue knows.
    """
    names = {Tag(name, "", "").job_name for name in (*table_files(), *([table] if table else ()))}
    question = queue_cache.Question(time.time() - _DAY, tuple(sorted(names)), all_users=True)
    answer = queue_cache.read(question, max_age)
    known = {*table_files(), *(share.table for share in shares(answer.snapshot))}
    if table is not None and table not in known:
        raise unknown("table", table, known, "--table")
    counted = _counted(answer.snapshot)
    warnings = _warnings(answer)
    if not counted:
        warnings.append(
            "GPU-hours are not tracked: this cluster's AccountingStorageTRES has no gres/gpu"
        )
    return Everybody(shares(answer.snapshot, table, counted), warnings)


def _counted(snapshot: QueueSnapshot) -> bool:
    """Tell whether the cluster counts GPUs; Slurm is asked only if its answers do not tell."""
    records = snapshot.queued
    if any(ended.gpu_seconds for ended in snapshot.ended.values()):
        return True
    if not all(record.counted for record in records if not record.waiting):
        return False
    if any(record.gpus for record in records if not record.waiting) or not snapshot.ended:
        return True
    try:
        return commands.read_limits().gpus_counted
    except commands.SlurmError:
        return True


def _warnings(answer: queue_cache.Answer) -> list[str]:
    warnings = [answer.warning] if answer.warning else []
    if answer.snapshot.silent:
        warnings.append("no answer from sacct: what has ended is not known")
    return warnings


def to_json(found: Iterable[Share], warnings: Iterable[str] = ()) -> dict[str, Any]:
    """Return the same as JSON values."""
    return {
        "schema": SCHEMA,
        "warnings": list(warnings),
        "users": [
            {
                "user": item.user,
                "table": item.table,
                "tasks": {name: item.tasks[name] for name in (*COLUMNS, "cancelled")},
                "gpus": item.gpus,
                "gpu_hours": item.gpu_hours,
            }
            for item in found
        ],
    }
