"""Runs directories as submissions leave them, for tests of what watches and operates them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.base.files import write_json
from benchmark.monitor.look import look
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.slurm.commands import SlurmUnreachableError
from benchmark.slurm.queue import RawQueue
from benchmark.submission.submission import new_submission

RECORDED = json.loads((Path(__file__).parent / "recorded_queue.json").read_text())
# As it prints the same where AccountingStorageTRES lacks gres/gpu, which is Slurm's default.
UNCOUNTED = {
    name: re.sub(r",?gres/gpu=\d+", "", text) if isinstance(text, str) else text
    for name, text in RECORDED.items()
}
HELD = {**RECORDED, "squeue": RECORDED["squeue"].replace("BeginTime", "JobHeldUser")}


def silent(*question: object) -> RawQueue:
    """A Slurm that does not answer, in place of queue.read_raw."""
    raise SlurmUnreachableError("slurmctld cannot be reached")


def state(runs_dir: Path, run: Run) -> str:
    """Return how a run stands."""
    return look(runs_dir).standings[run.key].name


def in_slurm(runs_dir: Path, data_dir: Path, packs: Sequence[Pack], job: int | None) -> Path:
    """Write what submitting packs as one array leaves behind."""
    submission = new_submission(packs[0].table, packs, runs_dir, data_dir)
    folder = submission.folder
    folder.create()
    folder.write(0, submission.files())
    array = {"nonce": f"{submission.nonce}-0", "job": job, "tasks": len(packs)}
    record = {"schema": 1, "table": packs[0].table, "profile": "default", "arrays": [array]}
    write_json(folder.record, record)
    return folder.path


def local(runs_dir: Path, data_dir: Path, packs: Sequence[Pack]) -> Path:
    """Write what the local queue is given."""
    submission = new_submission(packs[0].table, packs, runs_dir, data_dir)
    submission.write("local")
    return submission.folder.path


def started(runs_dir: Path, run: Run, epoch: int = 0, seconds: float = 10.0) -> RunDir:
    """Write a run that has come so far, two runs to a pack."""
    rundir = RunDir(runs_dir, run.key)
    rundir.create(run)
    write_json(rundir.provenance, {"schema": 1, "starts": [{"gpu": None}]})
    speed = {"seconds": seconds, "packed": 2, "images_per_second": 500.0}
    lines = [json.dumps({"epoch": number, **speed}) + "\n" for number in range(1, epoch + 1)]
    rundir.records.write_text("".join(lines))
    return rundir


def failed(runs_dir: Path, run: Run, reason: str, count: int = 1, when: float = 1.0) -> RunDir:
    """Write a run that failed."""
    rundir = started(runs_dir, run)
    failure = {"schema": 1, "reason": reason, "kind": "E", "count": count, "time": when}
    write_json(rundir.failure, {**failure, "traceback": ""})
    return rundir


def age(path: Path, seconds: float) -> None:
    """Make a file look older."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
