"""A runs directory that fills up or becomes read-only under a running training."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.base.trust import own_name
from benchmark.run.directory import RunDir
from tests.devcluster.conftest import PATIENCE, Cluster, until
from tests.devcluster.trainings import paced_plan, submit
from tests.helpers import numbers, train_plan

pytestmark = pytest.mark.slurm


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    if own_name() != "root":
        pytest.skip("needs a disk of its own")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free))


def _make_read_only(folder: Path) -> None:
    # A mount of its own: the file system as a whole has open files and stays writable.
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def test_a_full_then_read_only_disk_costs_time_and_nothing_else(
    running: Cluster, digits: Path, disk: Path, tmp_path: Path, pace: Path
) -> None:
    runs = disk / "runs"
    plan = paced_plan(digits, "4")
    train_plan(plan, digits, tmp_path / "inline")
    (teacher,) = plan.teachers
    (run,) = (run for run in plan.runs if run.teacher is not None)
    shutil.copytree(tmp_path / "inline" / teacher.key, runs / teacher.key)
    rundir = RunDir(runs, run.key)

    def start() -> None:
        """Submit, and return when the run has saved its state anew."""
        before = rundir.checkpoint.stat().st_mtime_ns if rundir.checkpoint.exists() else 0
        pace.touch()
        assert submit(plan, runs, digits, partition="main") == 0
        until(
            lambda: rundir.checkpoint.exists() and rundir.checkpoint.stat().st_mtime_ns > before,
            "the run to train",
            PATIENCE,
        )

    def fail() -> str:
        """Let the task come to its end, and return its log."""
        pace.unlink()
        until(lambda: not running.command("squeue", "-h"), "the task to leave", PATIENCE)
        assert not rundir.result.exists()
        logs = sorted(runs.glob(".submissions/*/*_log.out"), key=lambda path: path.stat().st_mtime)
        return logs[-1].read_text()

    start()
    _fill(disk)
    fail()  # the log lies on the full disk too
    (disk / "filler").unlink()

    start()
    _make_read_only(rundir.path)
    log = fail()
    subprocess.run(["umount", str(rundir.path)], check=True)
    assert "Read-only file system" in log
    assert "Traceback" not in log

    start()
    pace.unlink()
    until(rundir.result.exists, "the result", PATIENCE)
    assert numbers(runs, run) == numbers(tmp_path / "inline", run)
