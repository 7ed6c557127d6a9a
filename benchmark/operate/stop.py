"""Cancel, pause and resume what was submitted. Imports no torch.

Runs are marked before Slurm is told, so that a task which starts or asks to be requeued in
between sees the mark. Processes of this machine see it at their next heartbeat.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.inside import appending
from benchmark.base.trust import own_name
from benchmark.base.words import count
from benchmark.monitor.find import find_run
from benchmark.monitor.look import Seen, look
from benchmark.monitor.wanted import table_name
from benchmark.run.directory import RunDir
from benchmark.run.state import ENDED, LIVING, RunState
from benchmark.slurm import commands
from benchmark.slurm.notation import IndexSet
from benchmark.submission import marks
from benchmark.submission.folder import Folder
from benchmark.submission.marks import paused
from benchmark.submission.sent import Work, submitted_tables

_IDS_A_CALL = 500
_NOT_YOURS = "permission denied"


@dataclass(frozen=True)
class Cancelled:
    """What was cancelled, of one table or (``table`` None) of any.

    ``runs``: how many were marked; ``tasks``: how many were taken from Slurm; ``training``: runs
    that are in training now and see their mark at the next heartbeat.
    """

    runs_dir: Path
    table: str | None
    runs: int
    tasks: int
    training: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Paused:
    """What was paused: submissions, runs that will not start, and runs that go on to their end."""

    runs_dir: Path
    table: str | None
    submissions: int
    waiting: int
    training: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Resumed:
    """Submissions that start again, and those among them that are still held after failures.

    ``released``: how many tasks Slurm held of its own accord, by its reason; ``refused``: what it
    said to those that it does not release.
    """

    submissions: int
    held: int
    warnings: tuple[str, ...]
    released: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


def cancel(runs_dir: Path, table: str | None, run: str | None, everything: bool) -> Cancelled:
    """Cancel a table, a run, or all.

    Raises UserError if nothing or several things are named, and, with the marks in place, if
    Slurm does not answer.
    """
    if sum((table is not None, run is not None, everything)) != 1:
        raise UserError("say what to cancel: --table T, the name of a run, or --all")
    name = None if table is None else table_name(table, submitted_tables(runs_dir))
    seen = look(runs_dir, table=name, insist=True)
    key = None if run is None else find_run(runs_dir, run)
    keys = _to_cancel(seen, key)
    for marked in keys:
        _mark(RunDir(runs_dir, marked))
    marks = f"{count(len(keys), 'run')} marked as cancelled will not train"
    if seen.silent:
        raise _untold(marks, seen.silent, "cancel")
    # Those of runs that were marked earlier too: Slurm may not have answered then.
    ended = {k for k, s in seen.standings.items() if s.name in ENDED | {RunState.CANCELLED}}
    ended.update(keys)
    mine = [work for work in seen.packs if work.living and (key is None or key in work.keys)]
    living = [work for work in mine if work.in_slurm and ended.issuperset(work.keys)]
    try:
        call_with_ids(["scancel"], task_lists(living))
    except commands.SlurmUnreachableError as error:
        raise _untold(marks, str(error), "cancel") from error
    training = _still_training(keys, seen, living)
    return Cancelled(runs_dir, name, len(keys), len(living), training, seen.warnings)


def _to_cancel(seen: Seen, run: str | None) -> list[str]:
    if run is not None:
        standing = seen.standings.get(run)
        finished = standing is not None and standing.name in ENDED
        return [] if finished else [run]
    alive = LIVING | {RunState.UNKNOWN, RunState.STOPPED} if seen.silent else LIVING
    return [key for key, standing in seen.standings.items() if standing.name in alive]


def _mark(rundir: RunDir) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(rundir.path)
        with appending(rundir.cancelled):  # made, if it is not there
            pass
    except OSError as error:
        raise UserError(f"cannot mark {rundir.cancelled}: {error.strerror}") from error


def _still_training(keys: Collection[str], seen: Seen, told: Sequence[Work]) -> int:
    ended = {key for work in told for key in work.keys}
    runs = [seen.readings.get(key) for key in keys if key not in ended]
    return sum(run is not None and run.silence is not None for run in runs)


def task_lists(works: Iterable[Work]) -> list[str]:
    """Return tasks as Slurm's commands take them: one text an array, ``12_[0-99,105]``."""
    arrays: dict[int, list[int]] = {}
    singles = []
    for work in works:
        if work.place is not None and work.array.single:
            singles.append(str(work.place[0]))
        elif work.place is not None:
            arrays.setdefault(work.place[0], []).append(work.place[1])
    lists = [f"{job}_[{IndexSet.of(numbers)}]" for job, numbers in sorted(arrays.items())]
    return [*lists, *singles]


def call_with_ids(command: list[str], ids: Sequence[str]) -> list[str]:
    """Run a command on jobs or tasks, so many at a time; those that have ended are no error.

    Returns what Slurm refused. Raises SlurmUnreachableError if it was not told.
    """
    refused = []
    for start in range(0, len(ids), _IDS_A_CALL):
        try:
            commands.ask([*command, *ids[start : start + _IDS_A_CALL]])
        except commands.SlurmUnreachableError:
            raise
        except commands.SlurmError as error:
            refused.append(str(error))
    return refused


def _untold(stands: str, why: str, again: str) -> UserError:
    return UserError(
        f"{stands}, but Slurm could not be told ({why.partition(';')[0]}); {again} again when it"
        " answers"
    )


# -- maintenance --------------------------------------------------------------------------------


def pause(runs_dir: Path, table: str | None) -> Paused:
    """Keep what waits from starting; what runs goes on.

    Raises UserError, with the marks in place, if Slurm does not answer: tasks that start
    then see the mark and hold themselves.
    """
    name = None if table is None else table_name(table, submitted_tables(runs_dir))
    seen = look(runs_dir, table=name, insist=True)
    living = [work for work in seen.packs if work.living or _may_live(work, seen)]
    folders = {work.folder for work in living}
    reason = f"paused by {own_name()} since {time.strftime('%Y-%m-%d %H:%M')}"
    for folder in folders:
        marks.pause(folder, reason)
    marked = f"{count(len(folders), 'submission')} marked as paused: what starts holds itself"
    if seen.silent:
        raise _untold(marked, seen.silent, "pause")
    try:
        _hold("hold", folders, living)
    except commands.SlurmUnreachableError as error:
        raise _untold(marked, str(error), "pause") from error
    stands = [standing.name for standing in seen.standings.values()] if folders else []
    training = stands.count(RunState.RUNNING)
    waiting = sum(state in LIVING for state in stands) - training
    return Paused(runs_dir, name, len(folders), waiting, training, seen.warnings)


def resume(runs_dir: Path, table: str | None) -> Resumed:
    """Let what was paused start, and what Slurm holds; what is held after failures stays held.

    Slurm holds a task of which it could not start the process, and operators hold tasks too.
    Raises UserError if Slurm does not answer: what it holds then stays paused.
    """
    name = None if table is None else table_name(table, submitted_tables(runs_dir))
    seen = look(runs_dir, table=name, insist=True)
    marked = {work.folder for work in seen.packs if paused(work.folder) is not None}
    held = {folder for folder in marked if marks.held(folder) is not None}
    # Those of a task that held itself while it was resumed, too, which has no mark any more.
    others = [w for w in seen.packs if w.in_slurm and w.state.held and w.folder not in marked]
    others = [work for work in others if marks.held(work.folder) is None]
    folders = marked | {work.folder for work in others}
    in_slurm = {work.folder for work in seen.packs if work.in_slurm}
    for folder in folders - in_slurm:
        folder.paused.unlink(missing_ok=True)
    waiting = count(len(folders & in_slurm), "submission")
    try:
        if seen.silent and folders & in_slurm:
            raise commands.SlurmUnreachableError(seen.silent)
        waits = [work for work in seen.packs if work.living]
        refused = _hold("release", folders - held, waits)
    except commands.SlurmUnreachableError as error:
        raise _untold(f"{waiting} in Slurm stay paused", str(error), "resume") from error
    for folder in folders & in_slurm:
        folder.paused.unlink(missing_ok=True)
    # Whatever was refused is still held.
    kept = {work.folder for work in others} if refused else set()
    released = Counter(work.state.detail for work in others if work.folder not in kept)
    return Resumed(len(folders - kept), len(held), seen.warnings, released, refused)


def _may_live(work: Work, seen: Seen) -> bool:
    """Tell whether a task may wait or run as far as a silent Slurm leaves it open."""
    if not (seen.silent and work.in_slurm):
        return False
    return any(seen.standings[key].name not in ENDED for key in work.keys)


def _hold(action: str, folders: Collection[Folder], living: Iterable[Work]) -> tuple[str, ...]:
    """Hold or release what waits of submissions; returns what Slurm does not let this user do."""
    # A running task would be held too, once it is requeued; but sacct then no longer finds it.
    jobs = {
        str(work.place[0])
        for work in living
        if work.folder in folders and work.place is not None and work.state.name != "running"
    }
    ids = sorted(jobs, key=int)
    refused: list[str] = []
    for start in range(0, len(ids), _IDS_A_CALL):
        # scontrol takes one argument; arrays of which nothing waits any more are refused.
        refused += call_with_ids(["scontrol", action], [",".join(ids[start : start + _IDS_A_CALL])])
    return tuple(text for text in refused if _NOT_YOURS in text)
