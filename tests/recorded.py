"""Runs directories and a recorded Slurm, for tests of what watches and operates them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.slurm import commands as slurm
from benchmark.slurm import queue
from benchmark.slurm.commands import Reply
from benchmark.slurm.queue import RawQueue
from tests import submitted
from tests.helpers import SHORT, digits_plan


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Slurm as recorded; the commands that would change it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**submitted.RECORDED))
    commands: list[list[str]] = []

    def call(command: list[str], timeout: float = 30.0) -> Reply:
        commands.append(command)
        return Reply(0, "", "", 0.0)

    monkeypatch.setattr(slurm, "call", call)
    return commands


@pytest.fixture(scope="module")
def students(digits: Path) -> list[Run]:
    return list(digits_plan(digits, ["row=Student"], seeds="0-7", sets=SHORT).runs)


@pytest.fixture
def runs_dir(tmp_path: Path, digits: Path, students: list[Run]) -> Path:
    """Six packs of a run, sent as array 96: failed, cancelled, requeued, completed, two run."""
    runs = tmp_path / "runs"
    submitted.in_slurm(runs, digits, [Pack("digits", (run,)) for run in students[:6]], 96)
    return runs
