"""Who holds a run: one process at a time, on file systems whose locks cannot be trusted.

A lease is a file that its holder creates exclusively and touches regularly. Ages are judged
by the file system's own times (a probe file is written beside the lease), never by a node's
clock. A lease may be taken over when it is stale, when its process is known to be dead, or
when it belongs to an earlier start of the same Slurm job.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.files import write_json
from benchmark.rundir import STALE_SECONDS, RunDir


class RunHeldError(UserError):
    """Another process holds the run."""


class LeaseLostError(RuntimeError):
    """The lease was taken over while we held it: stop without writing anything more."""


def _identity() -> dict[str, Any]:
    return {
        "schema": 1,
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_start": _process_start(os.getpid()),
        "boot": _boot_id(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "array_job": os.environ.get("SLURM_ARRAY_JOB_ID"),
        "array_task": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    }


class Lease:
    """A held lease; use :meth:`acquire`, then :meth:`renew` regularly, then :meth:`release`."""

    def __init__(self, rundir: RunDir, identity: dict[str, Any]) -> None:
        self._path = rundir.lease
        self._identity = identity

    @classmethod
    def acquire(cls, rundir: RunDir) -> Lease:
        """Take the run, or raise RunHeldError saying who holds it."""
        identity = _identity()
        path = rundir.lease
        for _ in range(3):
            if _create(path, identity):
                return cls(rundir, identity)
            holder = _read(path)
            if holder is None:
                continue  # released, or being written, in between
            age = _age(path)
            if not _abandoned(holder, identity, age):
                raise RunHeldError(
                    f"{rundir.key} is held by process {holder.get('pid')} on"
                    f" {holder.get('host')}"
                    + (f" (job {holder['job']})" if holder.get("job") else "")
                    + f", last heartbeat {age:.0f} s ago; leaving it alone"
                )
            _take_over(path, holder, identity)
        holder = _read(path)
        if holder is not None and holder.get("token") == identity["token"]:
            return cls(rundir, identity)
        raise RunHeldError(f"{rundir.key} was taken by another process at the same moment")

    def renew(self) -> None:
        """Show a sign of life; LeaseLostError where another process took the run."""
        self.check()
        os.utime(self._path)

    def check(self) -> None:
        """Raise LeaseLostError unless the lease is still ours."""
        holder = _read(self._path)
        if holder is None or holder.get("token") != self._identity["token"]:
            raise LeaseLostError(f"{self._path} was taken over by another process")

    def release(self) -> None:
        """Give the run back."""
        holder = _read(self._path)
        if holder is not None and holder.get("token") == self._identity["token"]:
            with contextlib.suppress(OSError):
                self._path.unlink()


def _create(path: Path, identity: dict[str, Any]) -> bool:
    # Written whole under another name first, then linked: the lease is never seen half-written,
    # and link() is exclusive also on NFS.
    draft = path.with_name(f".lease.{identity['token']}")
    draft.write_text(json.dumps(identity))
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _take_over(path: Path, holder: dict[str, Any], identity: dict[str, Any]) -> None:
    """Replace an abandoned lease; of several that try, one wins (per abandoned token)."""
    claim = path.with_name(f".claim.{holder.get('token', 'unknown')}")
    if not _create(claim, identity):
        if _age(claim) < STALE_SECONDS:
            return
        # Whoever won this claim died before using it.
        with contextlib.suppress(FileNotFoundError):
            claim.unlink()
        if not _create(claim, identity):
            return
    current = _read(path)
    if current is not None and current.get("token") == holder.get("token"):
        write_json(path, identity)
    with contextlib.suppress(FileNotFoundError):
        claim.unlink()


def _abandoned(holder: dict[str, Any], ours: dict[str, Any], age: float) -> bool:
    if age >= STALE_SECONDS:
        return True
    job = ("job", "array_job", "array_task")
    if ours["job"] and all(holder.get(k) == ours[k] for k in job):
        # An earlier start of the same job: Slurm has ended it before starting us.
        return int(holder.get("restart", 0)) < int(ours["restart"])
    if holder.get("host") != ours["host"]:
        return False
    if holder.get("boot") != ours["boot"]:
        return True
    return _process_start(int(holder.get("pid", -1))) != holder.get("pid_start")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _age(path: Path) -> float:
    """Seconds since the file was touched, by the file system's clock."""
    probe = path.with_name(f".probe.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0
    finally:
        with contextlib.suppress(FileNotFoundError):
            probe.unlink()


def _process_start(pid: int) -> str | None:
    """The start time of a process, which tells a reused pid apart; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
