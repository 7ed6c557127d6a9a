"""What `bench doctor` finds, and when that is a failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.command import bench


@pytest.fixture(autouse=True)
def _without_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing ffcv in a process of its own takes seconds."""
    monkeypatch.setattr("benchmark.monitor.doctor._readers", list)


@pytest.mark.parametrize(
    ("answer", "code", "line"),
    [
        ("Slurmctld(primary) at n0 is UP", 0, "ok       slurm"),
        ("Slurmctld(primary) at n0 is DOWN", 1, "missing  slurm"),
    ],
)
def test_what_slurm_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, line: str
) -> None:
    for name in ("sbatch", "scontrol"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{answer}'\nexit {code}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ended = bench("doctor", "--runs", tmp_path / "runs", "--data", tmp_path / "data")
    assert ended.code == 0
    found = next(text for text in ended.out.splitlines() if " slurm " in text)
    assert found == f"{line}        {tmp_path / 'sbatch'}; {answer}"
    assert not (tmp_path / "runs").exists()


def test_data_that_is_there_and_data_that_is_broken(tmp_path: Path, digits: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    where = ("--runs", tmp_path / "runs", "--data", tmp_path / "data")
    ended = bench("doctor", *where)
    assert ended.code == 0
    assert "digits: 100 train images, 1,697 test images, official" in ended.out
    (tmp_path / "data" / "digits" / "dataset.json").write_text("{")
    ended = bench("doctor", *where)
    assert ended.code == 1
    assert "broken   data" in ended.out


def test_what_is_installed_and_who_runs_it(tmp_path: Path) -> None:
    ended = bench("doctor", "--runs", tmp_path / "runs", "--data", tmp_path / "data")
    assert "a checkout in" in ended.out
    assert "code sha256:" in ended.out
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_nodes_without_configured_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"sbatch": "", "scontrol": "UP", "sinfo": "1+"}
    for name, answer in answers.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{answer}'\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ended = bench("doctor", "--runs", tmp_path / "runs", "--data", tmp_path / "data")
    assert "no node has its memory configured" in ended.out
