"""What the files of a run say about how it stands. Imports no torch."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.run.directory import RunDir, State
from benchmark.run.identity import SCHEMA
from benchmark.run.lease import silence

# The last lines of the records: enough for the newest epoch whatever it holds.
_TAIL_BYTES = 8192


class Progress(NamedTuple):
    """How far a run has come: whole epochs, and what its newest one took.

    ``seconds``: the newest epoch's; ``own``: this run's share of them among those it is packed
    with; ``age``: seconds since that epoch ended.
    """

    epoch: int
    epochs: int
    seconds: float
    own: float
    images_per_second: float
    age: float


class Vitals(NamedTuple):
    """One run's files.

    ``silence``: since the heartbeat of a holder that is not known to be dead. ``own_seconds``:
    what its epochs cost, shared with the runs it is packed with; of an unfinished run that is
    estimated from its newest epoch.
    """

    state: State
    reason: str = ""
    attempts: int = 0  # that failed alike
    failed: float = 0.0  # when, seconds since 1970
    silence: float | None = None
    holder: str = ""
    progress: Progress | None = None
    restarts: int = 0
    cell: str | None = None
    own_seconds: float = 0.0
    gpu: bool = False


MISSING = Vitals("missing")


def existing(runs_dir: Path) -> set[str]:
    """Return the names of all directories of runs, and of nothing that starts with a dot."""
    try:
        with os.scandir(runs_dir) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".")}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UserError(f"cannot read the runs directory {runs_dir}: {error.strerror}") from error


def read_vitals(rundir: RunDir) -> Vitals:
    """Read how a run stands; what cannot be read is a failure with that reason."""
    try:
        if rundir.result.exists():
            return _finished(rundir.read_result())
        return _unfinished(rundir)
    except (UserError, OSError) as error:
        return Vitals("failed", str(error), attempts=1)


def _finished(result: dict[str, Any]) -> Vitals:
    return Vitals(
        "diverged" if result.get("diverged") else "done",
        restarts=int(result.get("restarts") or 0),
        cell=result.get("cell"),
        own_seconds=float(result.get("own_seconds") or 0.0),
        gpu=bool(result.get("provenance", {}).get("gpu")),
    )


def _unfinished(rundir: RunDir) -> Vitals:
    state = rundir.state()
    if state == "started" and not rundir.cell.exists():  # a mark was set and lifted again
        return MISSING
    vitals = Vitals(state, silence=silence(rundir.lease))
    if rundir.provenance.exists():
        starts = read_json(rundir.provenance, SCHEMA)["starts"]
        vitals = vitals._replace(
            restarts=len(starts) - 1, gpu=bool(starts and starts[-1].get("gpu"))
        )
    if rundir.failure.exists():
        failure = read_json(rundir.failure, SCHEMA)
        vitals = vitals._replace(
            reason=str(failure["reason"]), attempts=failure["count"], failed=failure["time"]
        )
    if vitals.silence is not None:
        vitals = vitals._replace(holder=_holder(rundir.lease))
    progress = read_progress(rundir)
    if progress is not None:
        vitals = vitals._replace(progress=progress, own_seconds=progress.epoch * progress.own)
    return vitals


def read_progress(rundir: RunDir) -> Progress | None:
    """Return how far an unfinished run is, None before its first epoch ended."""
    try:
        with rundir.records.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = file.read().decode(errors="replace")
        age = max(0.0, time.time() - rundir.records.stat().st_mtime)
        last = json.loads(tail.split("\n")[:-1][-1])
        epochs = json.loads(rundir.cell.read_text())["recipe"]["epochs"]
    except (OSError, ValueError, IndexError, KeyError):
        return None
    seconds = float(last.get("seconds") or 0.0)
    return Progress(
        epoch=max(0, int(last["epoch"])),
        epochs=int(epochs),
        seconds=seconds,
        own=seconds / max(1, int(last.get("packed") or 1)),
        images_per_second=float(last.get("images_per_second") or 0.0),
        age=age,
    )


def _holder(lease: Path) -> str:
    """Say who holds a run: its task where it has one, its process otherwise."""
    try:
        data = json.loads(lease.read_text())
        host = data["host"]
    except (OSError, ValueError, KeyError, TypeError):
        return "somebody"
    if data.get("array_job"):
        return f"task {data['array_job']}_{data['array_task']} on {host}"
    return f"process {data.get('pid')} on {host}"
