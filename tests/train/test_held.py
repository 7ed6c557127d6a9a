"""Runs that others hold, take over or cancel: what stands is left alone, and nobody writes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import STALE_SECONDS, Lease
from benchmark.run.reading import read
from benchmark.train import watcher
from tests.helpers import train


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Heartbeats after every step."""
    monkeypatch.setattr(watcher, "HEARTBEAT_SECONDS", 0.0)
    return


def at_tick(number: int, action: Any) -> Any:
    """A stop function that does something at one tick, and never stops."""
    calls = iter(range(10_000))

    def stop() -> str | None:
        if next(calls) == number:
            action()
        return None

    return stop


@pytest.mark.usefixtures("eager")
def test_a_lost_lease_ends_one_run_and_writes_no_more(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    lost, other = (RunDir(tmp_path, run.key) for run in runs)

    def take() -> None:
        Path.unlink(lost.lease)
        Lease.acquire(lost)
        files.update({p: p.stat().st_mtime_ns for p in lost.path.iterdir()})

    files: dict[Path, int] = {}
    outcome = train(runs, digits, tmp_path, stop=at_tick(7, take), checkpoint_seconds=0)
    assert outcome.endings == {lost.key: "held", other.key: "done"}
    assert "taken over" in outcome.reasons[lost.key]
    assert {p: p.stat().st_mtime_ns for p in lost.path.iterdir()} == files
    assert lost.lease in files


@pytest.mark.parametrize("checkpoint_seconds", [0, 1000])
def test_a_lost_lease_is_noticed_before_anything_is_written(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path, checkpoint_seconds: int
) -> None:
    # No heartbeat falls due: the checkpoint, or the result, is what notices.
    lost, other = (RunDir(tmp_path, run.key) for run in runs)

    def take() -> None:
        Path.unlink(lost.lease)
        Lease.acquire(lost)

    stop = at_tick(7, take)
    outcome = train(runs, digits, tmp_path, stop=stop, checkpoint_seconds=checkpoint_seconds)
    assert outcome.endings == {lost.key: "held", other.key: "done"}
    assert not lost.result.exists()
    assert not lost.weights.exists()
    assert not lost.failure.exists()


@pytest.mark.usefixtures("eager")
def test_a_cancelled_run_is_saved_and_left(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    cancelled, other = (RunDir(tmp_path, run.key) for run in runs)
    outcome = train(runs, digits, tmp_path, stop=at_tick(7, cancelled.cancelled.touch))
    assert outcome.endings == {cancelled.key: "cancelled", other.key: "done"}
    assert cancelled.checkpoint.exists()
    assert not cancelled.lease.exists()
    assert read(cancelled).state == "cancelled"
    assert train(runs, digits, tmp_path).endings[cancelled.key] == "cancelled"
    cancelled.cancelled.unlink()
    assert train(runs, digits, tmp_path).endings[cancelled.key] == "done"


def test_runs_that_another_process_holds_are_left_alone(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    held, other = (RunDir(tmp_path, run.key) for run in runs)
    held.create(runs[0])
    lease = Lease.acquire(held)
    outcome = train(runs, digits, tmp_path)
    assert outcome.endings == {held.key: "held", other.key: "done"}
    lease.check()
    assert read(held).state == "running"


@pytest.mark.usefixtures("eager")
def test_a_long_run_keeps_its_lease_fresh(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    rundir = RunDir(tmp_path, runs[0].key)
    ages: list[float] = []

    def grow_old() -> None:
        then = time.time() - STALE_SECONDS
        os.utime(rundir.lease, (then, then))

    def look() -> None:
        ages.append(time.time() - rundir.lease.stat().st_mtime)

    calls = iter([lambda: None, grow_old, look] + [lambda: None] * 1000)
    train([runs[0]], digits, tmp_path, stop=lambda: next(calls)())  # type: ignore[func-returns-value]
    assert ages
    assert ages[0] < STALE_SECONDS / 2
