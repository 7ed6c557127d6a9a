"""Submit again what failed or was cancelled, as it was submitted before. Imports no torch.

A run that failed too often with the same error is skipped: what is broken stays broken.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.inside import unlink
from benchmark.base.log import say
from benchmark.monitor.failures import Failed, FailureGroup, group
from benchmark.monitor.look import Seen, look
from benchmark.monitor.wanted import table_name
from benchmark.operate.stop import call_with_ids, task_lists
from benchmark.planning.pack_size import parse_pack_size
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile
from benchmark.run.reading import read
from benchmark.run.state import ENDED, RunState
from benchmark.submission import marks
from benchmark.submission.executors import executor_for
from benchmark.submission.hand_over import Order, Ready, prepare
from benchmark.submission.sent import Work, busy_keys, submitted_tables
from benchmark.submission.slurm import executor_as_sent
from benchmark.submission.submission import Executor
from benchmark.submission.task import with_own_plugins
from benchmark.table.own_teachers import FileOfTeacher

DEFAULT_CAP = 3
# Slurm's KillWait is 30 s by default; a node that is lost may keep its tasks for ever.
_ENDING_SECONDS, _POLL_SECONDS = 60.0, 1.0
_WAITING = ("waiting", "requeued")


class Origin(NamedTuple):
    """How runs were submitted, and so will be again."""

    table: str
    cluster: str
    profile: str  # as the submission noted it, on Slurm
    options: str  # the profile's content then, as JSON
    data_dir: Path
    reader: str | None
    plugins: tuple[Path, ...]
    files: tuple[tuple[str, FileOfTeacher], ...] = ()


@dataclass(frozen=True)
class Chosen:
    """What is taken up again, by how it was submitted, and what is not.

    ``worn_out``: failed too often with the same error; ``lost``: in no submission; ``refused``: why
    others cannot be retried, by key.
    """

    runs: Mapping[Origin, list[Run]]
    worn_out: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Retried:
    """What a retry did, or would do (``dry_run``).

    ``failures``: why they ended; ``orphans``: runs left out since nobody trains their teacher;
    ``held``: why submissions were held whose waiting tasks are sent anew; ``waiting``: how many
    tasks Slurm itself holds, by its reason; ``ready``: what goes, by how it went before;
    ``cancelled``: how many runs --cancelled would retry; ``damaged``: why the directories of runs
    cannot be read, by key.
    """

    warnings: tuple[str, ...]
    failures: tuple[FailureGroup, ...]
    chosen: Chosen
    cap: int
    orphans: tuple[Run, ...]
    refused: Mapping[str, str]
    held: tuple[str, ...]
    ready: tuple[tuple[Origin, Ready], ...]
    nothing: bool
    cancelled: int
    waiting: Mapping[str, int]
    damaged: Mapping[str, str]
    dry_run: bool
    code: int = 0


def retry(
    runs_dir: Path,
    table: str | None,
    *,
    failed: bool,
    cancelled: bool,
    cap: int = DEFAULT_CAP,
    profile: str | None = None,
    dry_run: bool = False,
) -> Retried:
    """Submit again.

    ``profile``: instead of the one that was used before. One run that cannot be retried does not
    keep the others. Raises UserError if neither failed nor cancelled runs are asked for, or none
    of them can be retried.
    """
    if not failed and not cancelled:
        raise UserError("say what to retry: --failed, --cancelled, or both")
    name = None if table is None else table_name(table, submitted_tables(runs_dir))
    seen = _look(runs_dir, name)
    states = (("failed", "stopped") if failed else ()) + (("cancelled",) if cancelled else ())
    keys = [key for key, standing in seen.standings.items() if standing.name in states]
    held = _held(seen) if failed else []
    keys += [key for work in held for key in work.keys if seen.standings[key].name == "held"]
    chosen = choose(keys, seen, cap)
    # All is checked before anything is changed.
    refused = dict(chosen.refused)
    orphans: list[Run] = []
    ready: list[tuple[Origin, Ready]] = []
    going = {run.key for runs in chosen.runs.values() for run in runs}
    for origin, runs in chosen.runs.items():
        try:
            found, alone = _prepare(runs_dir, origin, runs, profile, going)
        except UserError as error:
            refused.update((run.key, str(error)) for run in runs)
            continue
        orphans += alone
        if found is not None:
            refused.update(found.refused)
            ready.append((origin, found))
    if refused and not ready and not orphans:
        raise UserError(next(iter(refused.values())))
    code = int(bool(refused))
    if not dry_run:
        _release(held)
        for _, item in ready:
            for run in item.submission.runs:
                unlink(RunDir(runs_dir, run.key).cancelled)
            code = max(code, item.start())
    return Retried(
        warnings=seen.warnings,
        failures=_failures(keys, seen),
        chosen=chosen,
        cap=cap,
        orphans=tuple(orphans),
        refused=refused,
        held=tuple(sorted({work.held for work in held})),
        ready=tuple(ready),
        nothing=not keys,
        waiting=Counter(
            work.state.detail
            for work in seen.packs
            if work.in_slurm and work.state.held and not work.held
        ),
        cancelled=0 if cancelled else sum(s.name == "cancelled" for s in seen.standings.values()),
        damaged={
            key: standing.reason
            for key, standing in seen.standings.items()
            if standing.name is RunState.DAMAGED
        },
        dry_run=dry_run,
        code=code,
    )


def _look(runs_dir: Path, table: str | None) -> Seen:
    """Look, once no task is just being ended: only then can be told what became of it."""
    give_up = time.monotonic() + _ENDING_SECONDS
    told = False
    while True:
        seen = look(runs_dir, table=table)
        ending = any(
            work.state.name == "ending" and seen.standings[key].name not in ENDED
            for key, work in seen.works.items()
        )
        if not ending or seen.silent or time.monotonic() > give_up:
            return seen
        if not told:
            say("waiting for tasks that Slurm is just ending")
        told = True
        time.sleep(_POLL_SECONDS)


def choose(keys: Sequence[str], seen: Seen, cap: int) -> Chosen:
    """Sort runs by how they were submitted; skip those that failed too often with one error."""
    found: dict[Origin, list[Run]] = {}
    worn_out, lost = [], []
    refused: dict[str, str] = {}
    for key in keys:
        work = seen.works.get(key)
        if work is None:
            lost.append(key)
        elif seen.standings[key].attempts >= cap:
            worn_out.append(key)
        else:
            try:
                pack = with_own_plugins(work.pack(), work.folder)
                origin = _origin(work, pack)
                run = pack.runs[work.keys.index(key)]
            except UserError as error:
                refused[key] = str(error)
            else:
                found.setdefault(origin, []).append(run)
    return Chosen(found, tuple(worn_out), tuple(lost), refused)


def _origin(work: Work, pack: PackFile) -> Origin:
    executor = work.array.executor
    # What was trained in a terminal goes to this machine's queue.
    cluster = "local" if executor == "inline" else executor
    profile = options = ""
    if work.in_slurm:
        sent = work.folder.read_record()
        profile, options = str(sent["profile"]), json.dumps(sent.get("options", {}), sort_keys=True)
    place = (work.table, cluster, profile, options)
    files = tuple(sorted(pack.files.items()))
    return Origin(*place, pack.data_dir, pack.reader, pack.plugins, files)


def _prepare(
    runs_dir: Path, origin: Origin, runs: list[Run], profile: str | None, going: Collection[str]
) -> tuple[Ready | None, list[Run]]:
    """Return what is ready of runs of one origin, and those whose teacher nobody trains."""
    executor = _executor(origin, profile)
    queue = executor.queue(runs_dir)
    coming = {*going, *queue.runs, *busy_keys(runs_dir)}
    orphans = [run for run in runs if not _has_teacher(run, runs_dir, going, coming)]
    runs = [run for run in runs if run not in orphans]
    if not runs:
        return None, orphans
    teachers = frozenset(run.teacher.key for run in runs if run.teacher is not None)
    theirs = {run.key for run in runs}
    order = Order(
        table=origin.table,
        runs=tuple(sorted(runs, key=lambda run: run.key not in teachers)),
        teachers=teachers,
        runs_dir=runs_dir,
        data_dir=origin.data_dir,
        pack_size=parse_pack_size(""),
        plugins=origin.plugins,
        reader=origin.reader,
        files=dict(origin.files),
        queued={key: queue.runs[key] for key in teachers - theirs if key in queue.runs},
    )
    return prepare(order, executor, queue), orphans


def _has_teacher(run: Run, runs_dir: Path, going: Collection[str], coming: Collection[str]) -> bool:
    """Tell whether a run's teacher is there, or somebody trains it."""
    if run.teacher is None or run.teacher.source != "train" or run.teacher.key in going:
        return True
    state = read(RunDir(runs_dir, run.teacher.key)).state
    if state in (RunState.DONE, RunState.RUNNING):
        return True
    return run.teacher.key in coming and state is not RunState.CANCELLED


def _executor(origin: Origin, profile: str | None) -> Executor:
    """The executor of before; a profile that is no file any more is taken as it was sent."""
    if not origin.profile or profile is not None:
        return executor_for(origin.cluster, profile)
    return executor_as_sent(origin.profile, json.loads(origin.options))


def _failures(keys: Iterable[str], seen: Seen) -> tuple[FailureGroup, ...]:
    return group(
        Failed(key, seen.standings[key].reason, None, None)
        for key in keys
        if seen.standings[key].reason and seen.standings[key].name != "held"
    )


def _held(seen: Seen) -> list[Work]:
    """Packs that wait in submissions that are held after failures."""
    held = {work.folder for work in seen.packs if work.in_slurm and marks.held(work.folder)}
    return [work for work in seen.packs if work.folder in held and work.state.name in _WAITING]


def _release(held: Iterable[Work]) -> None:
    """End a hold. What waits is sent anew: its teacher may be among what failed.

    Merely released, students would start at once and miss it.
    """
    works = list(held)
    call_with_ids(["scancel"], task_lists(works))
    for folder in {work.folder for work in works}:
        marks.release(folder)
