"""Show the log of the task that trains, or trained, a run. Imports no torch."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TextIO

from benchmark.cluster.find import find_run, packs_of
from benchmark.errors import UserError
from benchmark.lease import silence
from benchmark.rundir import RunDir

_POLL_SECONDS = 0.5


def show_log(runs_dir: Path, text: str, follow: bool, out: TextIO = sys.stdout) -> None:
    """Print a run's log; with ``follow`` until the run has ended.

    Raises UserError for an unknown run, and where it has no log (yet).
    """
    key = find_run(runs_dir, text)
    path = find_log(runs_dir, key)
    rundir = RunDir(runs_dir, key)
    print(f"==> {path}", file=sys.stderr)
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            # Looked at first, so that what it wrote last is still read.
            ended = not follow or _ended(rundir)
            out.write(file.read())
            out.flush()
            if ended:
                return
            time.sleep(_POLL_SECONDS)


def find_log(runs_dir: Path, key: str) -> Path:
    """Return the newest log of a run; UserError that says why there is none."""
    works = packs_of(runs_dir, key)
    logs = [work.log for work in works if work.log.exists()]
    if logs:
        return max(logs, key=lambda path: path.stat().st_mtime)
    if not works:
        raise UserError(
            f"{key} was not submitted by {os.environ.get('USER', 'you')} from {runs_dir}, so its"
            " log is not here"
        )
    work = works[-1]
    if work.in_slurm:
        name = f"task {work.task}" if work.task else "its task"
        raise UserError(f"{key} has no log yet: {name} has not started")
    raise UserError(
        f"{key} has no log: it has not started, or was trained in a terminal (--cluster inline)"
    )


def _ended(rundir: RunDir) -> bool:
    if rundir.result.exists():
        return True
    return rundir.failure.exists() and silence(rundir.lease) is None
