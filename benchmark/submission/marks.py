"""What is noted beside a submission: who works through it, what failed, who paused or held it.

Three tasks that fail alike hold the rest: what is broken for all need not fail for all. Failures
are noted as files, so that no task needs to ask Slurm. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import read_bytes, read_json, write_json
from benchmark.run.directory import RunDir
from benchmark.run.lease import Lease, LeaseLostError, is_held
from benchmark.slurm import commands
from benchmark.submission.folder import SCHEMA, Folder

LIMIT = 3
_HEARTBEAT_SECONDS = 15.0


# -- failures -------------------------------------------------------------------------------------


def alike(reason: str) -> str:
    """Return a reason without what differs between tasks: paths, keys, numbers."""
    text = re.sub(r"(/[\w.+-]+)+", "PATH", reason)
    return re.sub(r"\b\w*\d\w*(-\w+)*\b", "N", text)[:200]


def note_failure(folder: Folder, task: str, reason: str) -> bool:
    """Note why a task (``1234_5``, or a pack's id) failed; tell whether to hold the rest now."""
    folder.failures.mkdir(exist_ok=True, mode=0o700)
    write_json(folder.failures / f"{task}.json", {"schema": SCHEMA, "reason": reason})
    kinds = Counter(alike(found) for found in reasons(folder).values())
    return kinds[alike(reason)] >= LIMIT


def reasons(folder: Folder) -> dict[str, str]:
    """Return the noted failures of a submission by task."""
    found = {}
    for path in sorted(folder.failures.glob("*.json")):
        with contextlib.suppress(UserError):  # being written just now
            reason = read_json(path, SCHEMA).get("reason")
            # A broken mark is a failure still: whoever wrote it knew of one.
            found[path.stem] = reason if isinstance(reason, str) else f"{path} names no reason"
    return found


# -- held and paused ------------------------------------------------------------------------------


def held(folder: Folder) -> str | None:
    """Return why a submission is held after failures, None if it is not."""
    return _read(folder.held)


def paused(folder: Folder) -> str | None:
    """Return who paused a submission, None if nobody did."""
    return _read(folder.paused)


def why_held(folder: Folder) -> str:
    """Return why a submission does not start what waits; empty if it does."""
    return held(folder) or paused(folder) or ""


def pause(folder: Folder, reason: str) -> None:
    """Mark a submission as paused; the first reason stays."""
    if paused(folder) is None:
        write_json(folder.paused, {"schema": SCHEMA, "reason": reason})


# -- stopped --------------------------------------------------------------------------------------

# A submission's folder is private, and so is its process: what was pressed was pressed by its user.
_STOPS = {"SIGINT": "stopped by you (Ctrl-C)", "SIGHUP": "stopped when its terminal was closed"}


def note_stop(folder: Folder, name: str) -> None:
    """Note by which signal the process of a submission was stopped; a full disk keeps it quiet."""
    reason = _STOPS.get(name, f"stopped by {name}")
    with contextlib.suppress(OSError):
        write_json(folder.stopped, {"schema": SCHEMA, "reason": reason})


def stopped(folder: Folder) -> str:
    """Return who stopped the process of a submission; empty if nobody did."""
    return _read(folder.stopped) or ""


def _read(path: Path) -> str | None:
    # A broken mark still stands: whoever wrote it wanted nothing to start.
    try:
        return str(json.loads(read_bytes(path))["reason"])
    except FileNotFoundError:
        return None
    except (OSError, UserError, ValueError, KeyError, TypeError, RecursionError):
        return f"{path} cannot be read"


def hold(folder: Folder, reason: str) -> None:
    """Keep the tasks of a submission that have not started from starting."""
    if held(folder) is None:
        write_json(folder.held, {"schema": SCHEMA, "reason": reason})
    for job in jobs(folder):
        # Refused for arrays of which nothing waits any more.
        commands.call(["scontrol", "hold", str(job)])


def release(folder: Folder) -> None:
    """Forget the failures and let the waiting tasks start."""
    for path in folder.failures.glob("*.json"):
        path.unlink(missing_ok=True)
    folder.held.unlink(missing_ok=True)
    for job in jobs(folder):
        commands.call(["scontrol", "release", str(job)])


def jobs(folder: Folder) -> list[int]:
    """Return the array ids of a submission, as far as they are known."""
    data = folder.read_record()
    known = [array["job"] for array in data["arrays"] if array["job"] is not None]
    own = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ.get("SLURM_JOB_ID"))
    # A first task may start before its submission has noted the job's id.
    return sorted({*known, int(own)} if own else set(known))


# -- at work --------------------------------------------------------------------------------------


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Hold a folder by a lease, as a run is held; RunHeldError if another process has it.

    Others can so tell packs that wait from packs that nobody will start.
    """
    lease = Lease.acquire(_as_rundir(folder))
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(lease, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        lease.release()


def is_at_work(folder: Path) -> bool:
    """Tell whether a process works through a submission of this machine."""
    return is_held(_as_rundir(folder).lease)


def _beat(lease: Lease, ended: threading.Event) -> None:
    with contextlib.suppress(LeaseLostError):
        while not ended.wait(_HEARTBEAT_SECONDS):
            lease.renew()


def _as_rundir(folder: Path) -> RunDir:
    return RunDir(folder.parent, folder.name)
