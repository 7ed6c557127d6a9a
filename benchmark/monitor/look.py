"""One look at a runs directory: its files, then one squeue, then one sacct.

What then seems to have ended without a result is read once more, since it may have ended well
in between. Imports no torch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmark.monitor.standing import Standing, failing, stand
from benchmark.run.directory import RunDir, entries
from benchmark.run.reading import Reading, read
from benchmark.run.state import ATTENTION, RunState
from benchmark.slurm import commands, queue_cache
from benchmark.slurm.notation import Tag
from benchmark.slurm.queue import EARLIER_SECONDS, QueueSnapshot
from benchmark.submission import marks
from benchmark.submission.sent import (
    Work,
    cells_of,
    cleaned_runs,
    in_queue,
    latest,
    local_work,
    slurm_work,
)

OTHER = "other runs"  # of the runs directory, which no submission of this user's names
_REREAD = ATTENTION | {RunState.UNKNOWN}


class Wanted(NamedTuple):
    """What a table asks for: the cell of each run that its plan holds."""

    table: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """What a look found, by run key; ``works`` holds the pack that counts for each run.

    ``packs``: everything that was submitted, oldest first. ``snapshot``: None if Slurm was
    not asked, or did not answer and nothing is known from before. ``silent``: why Slurm did not
    answer, empty if it did.
    """

    readings: Mapping[str, Reading]
    standings: Mapping[str, Standing]
    works: Mapping[str, Work]
    cells: Mapping[str, str]
    tables: Mapping[str, tuple[str, ...]]
    packs: tuple[Work, ...]
    snapshot: QueueSnapshot | None
    warnings: tuple[str, ...] = ()
    silent: str = ""

    @property
    def counted_by_slurm(self) -> bool:
        """Whether the hours of Slurm's tasks are known from Slurm itself."""
        return self.snapshot is not None and self.snapshot.accounting


def look(
    runs_dir: Path,
    wanted: Collection[Wanted] = (),
    table: str | None = None,
    max_age: float = 0.0,
    insist: bool = False,
) -> Seen:
    """Look at one table's runs, or at all.

    ``wanted``: what the tables' plans hold, without which nothing can be missing. ``max_age``:
    how many seconds old the queue may be; ``insist``: see queue_cache.read. Raises UserError
    if the runs directory cannot be read; a Slurm that does not answer is a warning.
    """
    there = set(entries(runs_dir))
    local = [work for work in local_work(runs_dir) if table in (None, work.table)]
    sent = [work for work in slurm_work(runs_dir) if table in (None, work.table)]
    keys = {key for work in (*local, *sent) for key in work.keys}
    keys.update(key for plan in wanted for key in plan.cells)
    cleaned = {
        name: {key: cell for key, cell in runs.items() if key in there}
        for name, runs in cleaned_runs(runs_dir).items()
        if table in (None, name)
    }
    keys.update(key for runs in cleaned.values() for key in runs)
    readings = {key: read(RunDir(runs_dir, key)) for key in keys}
    others = {}
    if table is None:
        found = {key: read(RunDir(runs_dir, key)) for key in sorted(there - keys)}
        others = {key: run for key, run in found.items() if run.state is not RunState.MISSING}
    readings.update(others)

    snapshot: QueueSnapshot | None = None
    warnings: tuple[str, ...] = ()
    silent = ""
    if sent:
        snapshot, warnings, silent = ask(sent, max_age, insist)
        sent = sent if snapshot is None else in_queue(sent, snapshot)
    packs = (*local, *sent)
    works = latest(packs)
    answered = None if snapshot is None else max(0.0, time.time() - snapshot.taken)
    standings = _stand_all(runs_dir, readings, works, packs, answered)
    return Seen(
        readings=readings,
        standings=standings,
        works=works,
        cells=_cells(packs, wanted, cleaned),
        tables=_by_table(packs, wanted, cleaned, tuple(others)),
        packs=packs,
        snapshot=snapshot,
        warnings=warnings,
        silent=silent,
    )


def ask(
    works: Collection[Work], max_age: float, insist: bool = False
) -> tuple[QueueSnapshot | None, tuple[str, ...], str]:
    """Ask Slurm about the jobs of these packs; if it is silent, a warning says so.

    Returns what is known, the warnings, and why Slurm did not answer (empty if it did).
    """
    names = tuple(sorted({Tag(table, "", "").job_name for table in {w.table for w in works}}))
    since = min(work.array.sent for work in works) - EARLIER_SECONDS
    try:
        question = queue_cache.Question(since, names)
        answer = queue_cache.read(question, max_age, insist)
    except commands.SlurmError as error:
        return None, (f"{error}; shown is what the files say",), str(error)
    warnings = [answer.warning] if answer.warning else []
    if answer.snapshot.silent:
        warnings.append("no answer from sacct: how tasks ended is known from their files alone")
    return answer.snapshot, tuple(warnings), answer.warning or ""


def _stand_all(
    runs_dir: Path,
    readings: dict[str, Reading],
    works: Mapping[str, Work],
    packs: Iterable[Work],
    answered: float | None,
) -> dict[str, Standing]:
    noted = {folder: marks.reasons(folder) for folder in {work.folder for work in packs}}
    failed = [
        w for w in packs if failing(w) or (not w.living and (w.task or w.id) in noted[w.folder])
    ]
    failed_tasks = Counter(key for work in failed for key in work.keys)
    found = {}
    for key in readings:
        work = works.get(key)
        said = noted[work.folder].get(work.task or work.id, "") if work else ""
        standing = stand(readings[key], work, answered, said)
        if answered is not None and work and work.in_slurm and standing.name in _REREAD:
            readings[key] = read(RunDir(runs_dir, key))
            standing = stand(readings[key], work, answered, said)
        attempts = readings[key].attempts
        # A last attempt that noted nothing itself failed in another way: its tasks are counted.
        if work is None or readings[key].failed < work.array.sent:
            attempts = max(attempts, failed_tasks[key])
        found[key] = standing._replace(attempts=attempts)
    return found


def _cells(
    packs: Iterable[Work], wanted: Iterable[Wanted], cleaned: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    found = {key: cell for runs in cleaned.values() for key, cell in runs.items()}
    found.update(cells_of(packs))
    for plan in wanted:
        found.update(plan.cells)
    return found


def _by_table(
    packs: Iterable[Work],
    wanted: Iterable[Wanted],
    cleaned: Mapping[str, Mapping[str, str]],
    others: tuple[str, ...],
) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for plan in wanted:
        found[plan.table] = dict.fromkeys(plan.cells)
    for name, runs in cleaned.items():
        found.setdefault(name, {}).update(dict.fromkeys(runs))
    for work in packs:
        found.setdefault(work.table, {}).update(dict.fromkeys(work.keys))
    ordered = {name: tuple(keys) for name, keys in sorted(found.items())}
    return {**ordered, OTHER: others} if others else ordered
