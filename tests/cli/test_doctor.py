"""What `bench doctor` finds, and when that is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.base.speed import Form, Speed, known_speed, measure_speed
from tests.cli.command import bench
from tests.two_users import ALICE, as_root

SLOW = {Form.PLAIN: 0.24, Form.CHANNELS_LAST: 0.2, Form.BF16: 0.32}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing ffcv in a process of its own takes seconds, and so does measuring the CPU."""
    monkeypatch.setattr("benchmark.monitor.doctor.known_speed", lambda: Speed(SLOW))
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


def test_a_cpu_that_is_slower_in_bfloat16(tmp_path: Path) -> None:
    where = ("--runs", tmp_path / "runs", "--data", tmp_path / "data")
    said = bench("doctor", *where)
    assert "ok       speed        80 images/s in steps of resnet8x4 on one thread" in said.out
    assert "channels_last 1.20x, bfloat16 0.62x" in said.out
    assert "note     speed        bfloat16 takes 1.6 times as long as float32" in said.out
    assert " speed " not in bench("doctor", "--no-speed", *where).out


@pytest.mark.slow
def test_the_speed_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known_speed.cache_clear()
    try:
        assert known_speed() is None
        found = measure_speed()
        assert found is not None
        assert found.seconds[Form.CHANNELS_LAST] > 0
        known = known_speed()
        assert known is not None
        assert known.seconds == found.seconds
        (tmp_path / "kd-benchmark" / "speed.json").write_text("[]")
        known_speed.cache_clear()
        assert known_speed() is None
    finally:
        known_speed.cache_clear()


def test_a_user_without_a_passwd_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    ended = bench("doctor", "--runs", tmp_path / "runs", "--data", tmp_path / "data")
    assert ended.code == 0
    assert "note     user         54321 has no name on this machine (no passwd entry)" in ended.out


@as_root
def test_a_checkout_that_git_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    for place in (checkout, checkout / ".git"):
        os.chown(place, ALICE, ALICE)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setattr("benchmark.base.origin.code_root", lambda: checkout)
    ended = bench("doctor", "--runs", tmp_path / "runs", "--data", tmp_path / "data")
    (line,) = [text for text in ended.out.splitlines() if text.startswith("note     git ")]
    assert "dubious ownership" in line
    assert "git config --global --add safe.directory" in line
