"""Leases on file systems without hard links (exFAT, SMB, FUSE), which refuse link() as these do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from benchmark.base.errors import UserError
from benchmark.monitor.doctor import examine
from benchmark.planning.refuse import check_before_queue
from benchmark.run import lease
from benchmark.run.directory import RunDir
from benchmark.run.lease import STALE_SECONDS, Lease, RunHeldError, check_exclusive, file_system
from tests.helpers import digits_plan

NO_LINKS = pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
# Takes a run with link() refused, as soon as its input ends.
TAKER = """
import errno, os, sys
from pathlib import Path
from benchmark.run.directory import RunDir
from benchmark.run.lease import Lease, RunHeldError
def refuse(*_):
    raise OSError(errno.EPERM, "Operation not permitted")
os.link = refuse
sys.stdin.read()
try:
    Lease.acquire(RunDir(Path(sys.argv[1]), "run"))
    print("won", flush=True)
except RunHeldError:
    print("held", flush=True)
"""


def refusing(number: int) -> Callable[..., NoReturn]:
    def link(source: object, target: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return link


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path, "run")


@NO_LINKS
def test_a_run_is_held_by_one(
    rundir: RunDir, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    monkeypatch.setattr(os, "link", refusing(refusal))
    held = Lease.acquire(rundir)
    with pytest.raises(RunHeldError, match=f"held by process {os.getpid()}"):
        Lease.acquire(rundir)
    held.renew()
    held.release()
    Lease.acquire(rundir).release()
    assert list(rundir.path.iterdir()) == []


def test_a_lease_is_not_taken_while_it_is_written(
    rundir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    rundir.lease.touch()  # created, not yet written
    with pytest.raises(RunHeldError):
        Lease.acquire(rundir)
    past = rundir.lease.stat().st_mtime - STALE_SECONDS - 5
    os.utime(rundir.lease, (past, past))
    Lease.acquire(rundir).check()


@pytest.mark.slow
def test_of_several_processes_one_takes_it(rundir: RunDir) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(rundir.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    said = []
    for process in started:
        assert process.stdout is not None
        said.append(process.stdout.read().strip())
        process.stdout.close()
        process.wait()
    # Whoever comes after a winner that has ended may take the run from it.
    assert "won" in said
    assert set(said) <= {"won", "held"}


@NO_LINKS
def test_a_remote_file_system_without_links_is_refused_before_the_queue(
    rundir: RunDir, digits: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    assert check_exclusive(rundir.root) is None
    monkeypatch.setattr(os, "link", refusing(refusal))
    assert "no hard links" in str(check_exclusive(rundir.root))
    check_before_queue(digits_plan(digits).runs, digits, rundir.root)
    monkeypatch.setattr(lease, "file_system", lambda folder: "fuse.rclone")
    message = r"\(fuse\.rclone\) that has no hard links .*choose another runs directory"
    with pytest.raises(UserError, match=message):
        check_before_queue(digits_plan(digits).runs, digits, rundir.root)
    with pytest.raises(UserError, match=message):
        Lease.acquire(rundir)
    assert list(rundir.path.iterdir()) == []


@pytest.mark.slow
def test_the_doctor_says_so(rundir: RunDir, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def links() -> list[str]:
        return [f.line() for f in examine(rundir.root, digits, measure=False) if f.what == "links"]

    assert links() == []
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    (line,) = links()
    assert line.startswith("note ")
    assert "has no hard links" in line
    monkeypatch.setattr(lease, "file_system", lambda folder: "fuse")
    (line,) = links()
    assert line.startswith("broken ")


def test_file_systems_are_named(tmp_path: Path) -> None:
    assert file_system(Path("/proc")) == "proc"
    assert isinstance(file_system(tmp_path), str)


def test_two_processes_try_the_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tries while the other's link is there, and takes away its own alone."""
    link, inner = os.link, []

    def linked(source: Path, target: Path) -> None:
        link(source, target)
        if not inner:
            inner.append(None)
            inner[0] = lease.check_exclusive(tmp_path)
            assert target.exists()

    monkeypatch.setattr(lease.os, "link", linked)
    assert lease.check_exclusive(tmp_path) is None
    assert inner == [None]
    assert not list(tmp_path.iterdir())
