"""Who holds a run: one process at a time, on file systems whose locks cannot be trusted.

A lease is a file that its holder creates exclusively and touches regularly. Ages are judged
by the file system's own times (a probe file is written beside the lease), never by a node's
clock. A lease may be taken over when it is stale, when its process is known to be dead, or
when it belongs to an earlier start of the same Slurm job, or to a task that Slurm has ended.

Taking over what the token H holds needs the file ``.claim.H``, which one process alone can
create; a claim whose owner died in between is itself taken over by the same rule.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import read_bytes, write_json

if TYPE_CHECKING:
    from benchmark.run.directory import RunDir

# A lease that was not renewed for this long is taken to be abandoned.
STALE_SECONDS = 180.0
_UNREADABLE = "unreadable"  # the token of a lease that a crash of its disk left empty
# How file systems without hard links say so: exFAT and FAT, SMB, FUSE.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_LONGEST_CHAIN = 8  # of claims whose owners all died


class RunHeldError(UserError):
    """Another process holds the run."""


class LeaseLostError(RuntimeError):
    """The lease was taken over while we held it: stop without writing anything more."""


class Lease:
    """A held lease; use :meth:`acquire`, then :meth:`renew` regularly, then :meth:`release`."""

    def __init__(self, rundir: RunDir, identity: dict[str, Any]) -> None:
        self._path = rundir.lease
        self._identity = identity

    @classmethod
    def acquire(cls, rundir: RunDir, ended: Collection[str] = ()) -> Lease:
        """Take the run, or raise RunHeldError saying who holds it.

        ``ended``: tasks (``1234_5``) that Slurm has ended, however lately they gave a sign of
        life.
        """
        identity = _identity()
        path = rundir.lease
        for _ in range(3):
            if _create(path, identity):
                return cls(rundir, identity)
            holder, age = _look(path)
            if holder is None or age is None:
                continue  # released in between
            if not (_abandoned(holder, identity, age) or _task(holder) in ended):
                raise RunHeldError(
                    f"{rundir.key} is held by process {holder.get('pid')} on"
                    f" {holder.get('host')}"
                    + (f" (job {holder['job']})" if holder.get("job") else "")
                    + f", last heartbeat {age:.0f} s ago; leaving it alone"
                )
            if _take_over(path, holder["token"], identity):
                return cls(rundir, identity)
        raise RunHeldError(f"{rundir.key} was taken by another process at the same moment")

    def renew(self) -> None:
        """Show a sign of life; LeaseLostError if another process took the run.

        A file system that does not answer costs a heartbeat, not the run.
        """
        self.check()
        with contextlib.suppress(OSError):
            os.utime(self._path)

    def check(self) -> None:
        """Raise LeaseLostError unless the lease is still ours."""
        try:
            holder = _read(self._path)
        except OSError:
            return
        except UserError:  # something else is in its place
            holder = None
        if holder is None or holder["token"] != self._identity["token"]:
            raise LeaseLostError(f"{self._path} is gone or was taken over by another process")

    def release(self) -> None:
        """Give the run back."""
        with contextlib.suppress(OSError, UserError):
            holder = _read(self._path)
            if holder is not None and holder["token"] == self._identity["token"]:
                self._path.unlink()


class Sign(NamedTuple):
    """The last sign of life of a holder that is not known to be dead: seconds ago, and who."""

    silence: float
    holder: str

    @property
    def fresh(self) -> bool:
        """Whether the holder is taken to live."""
        return self.silence < STALE_SECONDS


def sign_of_life(path: Path) -> Sign | None:
    """Return the sign of life at ``path``, None if nobody holds it, without writing anything.

    For display and planning: its age is judged by this machine's clock. Raises OSError or
    UserError if that cannot be told.
    """
    holder = _read(path)  # first: see _look
    if holder is None or _abandoned(holder, _identity(), 0.0):
        return None
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    host = holder.get("host")
    if host is None:
        return Sign(age, "somebody")
    if (task := _task(holder)) is not None:
        return Sign(age, f"task {task} on {host}")
    return Sign(age, f"process {holder.get('pid')} on {host}")


def _task(holder: dict[str, Any]) -> str | None:
    """Return the task of Slurm that holds a lease, None if it is none's."""
    array, job = holder.get("array_job"), holder.get("job")
    return f"{array}_{holder.get('array_task')}" if array else (str(job) if job else None)


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lease at ``path``, as far as can be told."""
    with contextlib.suppress(OSError, UserError):
        sign = sign_of_life(path)
        return sign is not None and sign.fresh
    return False


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


def _create(path: Path, identity: dict[str, Any]) -> bool:
    # Written whole under another name first, then linked: the lease is never seen half-written,
    # and link() is exclusive also on NFS. There the answer may be lost and the repeated call
    # then finds our own link, which the number of links tells.
    draft = path.with_name(f".draft.{identity['token']}")
    try:
        with draft.open("w") as file:
            json.dump(identity, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return draft.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_without_links(path, identity)
        return True
    finally:
        draft.unlink(missing_ok=True)


def _create_without_links(path: Path, identity: dict[str, Any]) -> bool:
    # Exclusive as well, but the lease is seen empty for a moment: nobody takes such a one
    # before it is stale.
    _refuse_remote(path.parent)
    try:
        with path.open("x") as file:
            json.dump(identity, file)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True


def check_exclusive(folder: Path) -> str | None:
    """Try in ``folder`` what leases need, leaving nothing behind.

    Returns a note if its file system has no hard links. Raises UserError if two processes could
    then hold one run.
    """
    draft = folder / f".draft.{uuid.uuid4().hex}"
    link = draft.with_name(f"{draft.name}.link")
    try:
        draft.touch()
        os.link(draft, link)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from error
        _refuse_remote(folder)
        return f"{file_system(folder)} has no hard links: leases are files created exclusively"
    finally:
        for path in (link, draft):
            path.unlink(missing_ok=True)
    return None


def _refuse_remote(folder: Path) -> None:
    kind = file_system(folder)
    if kind.partition(".")[0] == "fuse":
        raise UserError(
            f"{folder} lies on a file system ({kind}) that has no hard links and cannot promise"
            " that one process alone creates a file, so two could train one run; choose another"
            " runs directory with --runs or BENCH_RUNS"
        )


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on, as mount names it; "" if unknown."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        fields, _, kind = line.partition(" - ")
        if fields.split()[2:3] == [number] and kind:
            return kind.split()[0]
    return ""


def _take_over(path: Path, token: str, identity: dict[str, Any]) -> bool:
    """Replace the lease that ``token`` abandoned; of several that try, one succeeds."""
    claims = [path.with_name(f".claim.{token}")]
    while not _create(claims[-1], identity):
        other, age = _look(claims[-1])
        if age is None or other is None or not _abandoned(other, identity, age):
            return False
        claims.append(path.with_name(f".claim.{other['token']}"))
        if len(claims) > _LONGEST_CHAIN:
            return False
    try:
        # Whoever held this claim before us may have used it, or the holder may have come back.
        current = _read(path)
        if current is None or current["token"] != token:
            return False
        write_json(path, identity)
        return True
    finally:
        for claim in claims:
            claim.unlink(missing_ok=True)


def _abandoned(holder: dict[str, Any], ours: dict[str, Any], age: float) -> bool:
    if age >= STALE_SECONDS:
        return True
    job = ("job", "array_job", "array_task")
    same_job = ours["job"] and all(holder.get(k) == ours[k] for k in job)
    if same_job and holder.get("restart", 0) < ours["restart"]:
        return True  # an earlier start of the same job: Slurm has ended it before starting us
    if holder.get("host") != ours["host"]:
        return False
    if holder.get("boot") != ours["boot"]:
        return True
    return _process_start(holder.get("pid", -1)) != holder.get("pid_start")


def _read(path: Path) -> dict[str, Any] | None:
    """Return who holds a lease or claim, None if there is none.

    A file that is no lease has a token and nothing else: it is abandoned once it is stale.
    Raises OSError if it cannot be read, UserError if it is no file.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return None
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    token = data.get("token") if isinstance(data, dict) else None
    numbers = [data.get("pid", 0), data.get("restart", 0)] if isinstance(data, dict) else []
    # The token becomes part of a file's name.
    if not (isinstance(token, str) and token.isalnum() and all(type(n) is int for n in numbers)):
        return {"token": _UNREADABLE}
    return dict(data)


def _look(path: Path) -> tuple[dict[str, Any] | None, float | None]:
    """Return who holds a lease or claim, and its age; each None if it is gone.

    In this order: were it replaced in between, the age would be the new holder's, which is too
    young to take it from the old one. The other way round a new holder would look abandoned.
    """
    holder = _read(path)
    return holder, _age(path)


def _age(path: Path) -> float | None:
    """Seconds since the file was touched, by the file system's clock; None if it is gone."""
    probe = path.with_name(f".probe.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _process_start(pid: int) -> str | None:
    """The start time of a process, which tells a reused pid apart; None if it is gone."""
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
