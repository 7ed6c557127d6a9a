"""The log of the task that trains, or trained, a run. Imports no torch."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular
from benchmark.base.trust import own_name
from benchmark.monitor.find import find_run, packs_of
from benchmark.monitor.look import look
from benchmark.monitor.status import refresh_seconds
from benchmark.run.directory import RunDir
from benchmark.run.reading import read
from benchmark.run.state import ENDED, LIVING, RunState
from benchmark.slurm import queue_cache
from benchmark.submission.sent import Work

_POLL_SECONDS = 0.5
_PART = 1_000_000  # characters
_LEFT_A_WORD = (RunState.FAILED, RunState.CANCELLED, RunState.DAMAGED)
_GOES_ON = LIVING | {RunState.UNKNOWN}


@dataclass(frozen=True)
class Log:
    """A run's log: its file, and its text in parts as they are written."""

    path: Path
    parts: Iterator[str]


def read_log(runs_dir: Path, text: str, follow: bool = False) -> Log:
    """Return a run's log; with ``follow`` the parts end when the run has ended.

    Raises UserError for an unknown run, and if it has no log (yet).
    """
    key = find_run(runs_dir, text)
    works = packs_of(runs_dir, key)
    path = _newest_log(works, runs_dir, key)
    following = _Following(RunDir(runs_dir, key), works[-1].table) if follow else None
    return Log(path, _parts(path, following))


def _parts(path: Path, following: _Following | None) -> Iterator[str]:
    with open_regular(path) as raw, io.TextIOWrapper(raw, "utf-8", "replace") as file:
        while True:
            # Looked at first, so that what it wrote last is still read.
            ended = following is None or following.ended()
            while part := file.read(_PART):
                yield part
            if ended:
                return
            time.sleep(_POLL_SECONDS)


def _newest_log(works: Sequence[Work], runs_dir: Path, key: str) -> Path:
    """Return the newest log of a run's packs; UserError that says why there is none."""
    logs = [work.log for work in works if work.log.exists()]
    if logs:
        return max(logs, key=lambda path: path.stat().st_mtime)
    if not works:
        raise UserError(
            f"{key} was not submitted by {own_name()} from {runs_dir}, so its log is not here"
        )
    work = works[-1]
    if work.in_slurm:
        name = f"task {work.task}" if work.task else "its task"
        raise UserError(f"{key} has no log yet: {name} has not started")
    raise UserError(
        f"{key} has no log: it has not started, or was trained in a terminal (--cluster inline)"
    )


class _Following:
    """Tells when a run has ended that somebody follows.

    Its files tell it at once. If they do not, since nobody holds the run and it left no
    word (scancel, a process that was killed), the queue is asked, as rarely as a watcher asks.
    """

    def __init__(self, rundir: RunDir, table: str) -> None:
        self._rundir = rundir
        self._table = table
        self._every = refresh_seconds()
        self._ask_at = 0.0

    def ended(self) -> bool:
        found = read(self._rundir)
        if found.state in ENDED:
            return True
        if found.silence is not None:
            return False
        if found.state in _LEFT_A_WORD:
            return True
        if time.monotonic() < self._ask_at:
            return False
        self._ask_at = time.monotonic() + queue_cache.pause(self._every)
        seen = look(self._rundir.root, table=self._table, max_age=self._every)
        return seen.standings[self._rundir.key].name not in _GOES_ON
