"""Rows are claimed by locks that die with their process, and that nobody depends on."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.train import claims
from benchmark.train.answer_file import Rows
from benchmark.train.claims import Claims
from tests.train.locker import Locker

# Rows 10 to 12 are another's.
HELD = (10, 3)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Locker]:
    with Locker(tmp_path / "claims", *HELD) as found:
        yield found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The locks that are asked for and given back: (number of rows, the first)."""
    found: list[tuple[int, ...]] = []
    lock = fcntl.lockf

    def noted(descriptor: int, kind: int, *where: int) -> None:
        found.append(where)
        lock(descriptor, kind, *where)

    monkeypatch.setattr(fcntl, "lockf", noted)
    return found


def rows(*numbers: int) -> Rows:
    return np.array(numbers, np.int64)


def is_free(folder: Path, row: int) -> bool:
    """Whether another process could have a row."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, 6, 1, int(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(folder / "claims"), str(row)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_what_another_holds_is_not_ours(tmp_path: Path, other: Locker) -> None:
    ours = Claims(tmp_path)
    with ours.held(rows(14, 10, 8, 14, 12), wait=True) as found:
        assert found.tolist() == [True, False, True, True, False]
        assert not is_free(tmp_path, 14)
        assert is_free(tmp_path, 13)
    assert is_free(tmp_path, 14)
    assert not is_free(tmp_path, 11)
    with ours.held(rows(10, 11), wait=False) as found:
        assert not found.any()


def test_it_waits_until_the_other_died(
    tmp_path: Path, other: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: other.kill())
    with Claims(tmp_path).held(rows(11, 12), wait=True) as found:
        assert found.all()
        assert not is_free(tmp_path, 11)


def test_it_waits_only_once_for_one_that_does_not_move(
    tmp_path: Path, other: Locker, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.01)
    ours = Claims(tmp_path)
    with ours.held(rows(11, 12), wait=True) as found:
        assert found.all()
    before = len(calls)
    with ours.held(rows(11, 20), wait=True) as found:
        assert found.all()
    assert len(calls) == before


def test_neighbours_cost_one_call(tmp_path: Path, calls: list[tuple[int, ...]]) -> None:
    with Claims(tmp_path).held(rows(7, 5, 6, 900, 6), wait=True) as found:
        assert found.all()
    assert calls == [(3, 5), (1, 900), ()]


def test_locks_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refused(*where: int) -> None:
        asked.append(where)
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refused)
    ours = Claims(tmp_path)
    for _ in range(2):
        with ours.held(rows(1, 5), wait=True) as found:
            assert found.all()
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs"])
def test_network_file_systems_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[int, ...]], kind: str
) -> None:
    monkeypatch.setattr(claims, "file_system", lambda _: kind)
    with Claims(tmp_path).held(rows(1, 5), wait=True) as found:
        assert found.all()
    assert not calls
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    with Claims(tmp_path / "gone").held(rows(1, 5), wait=True) as found:
        assert found.all()
