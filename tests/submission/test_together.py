"""torchrun starts the processes: one submits, the others train with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.run.directory import RunDir
from tests.helpers import digits_plan, numbers, train

SETS = ("recipe.replicas=2", "recipe.epochs=1", "recipe.schedule.milestones=[1]")


def _torchrun(
    processes: int, runs: Path, data: Path, *sets: str
) -> subprocess.CompletedProcess[str]:
    here = Path(sys.executable).parent
    command = [str(here / "torchrun"), "--standalone", "--nproc-per-node", str(processes)]
    command += ["--no-python", str(here / "bench"), "submit", "--table", "digits"]
    command += ["--only", "row=Student", "--only", "student=resnet8", "--seeds", "0"]
    command += ["--cluster", "inline", "--runs", str(runs), "--data", str(data)]
    for item in sets:
        command += ["--set", item]
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_of_torchrun(digits: Path, tmp_path: Path) -> None:
    (run,) = digits_plan(digits, ["row=Student", "student=resnet8"], sets=SETS).runs
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert set(train([run], digits, alone).endings.values()) == {"done"}
    done = _torchrun(2, together, digits, *SETS)
    assert done.returncode == 0, done.stderr
    assert numbers(alone, run) == numbers(together, run)
    assert "in 2 processes" in done.stderr + done.stdout
    # Nothing is left to train, and all processes end.
    assert _torchrun(2, together, digits, *SETS).returncode == 0
    assert len(RunDir(together, run.key).read_records()) == 1


@pytest.mark.slow
def test_more_processes_than_replicas(digits: Path, tmp_path: Path) -> None:
    done = _torchrun(3, tmp_path / "runs", digits, *SETS)
    assert done.returncode != 0
    said = done.stderr + done.stdout
    assert "3 processes are more than the 2 replicas of digits-resnet8" in said
    assert "exitcode  : 2" in said
    assert not (tmp_path / "runs").exists()
