"""A number that others could have written is said to be one, and stays in the table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.base import trust
from benchmark.results.report import make_report
from benchmark.results.writers import doubts
from benchmark.run.directory import RunDir
from tests.results.filled import plan, runs_of, write
from tests.two_users import ALICE, BOB, LAB, as_root


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for key in ("a", "b"):
        rundir = RunDir(root, key)
        rundir.path.mkdir(parents=True)
        rundir.result.write_text("{}")
        rundir.path.chmod(0o755)
        rundir.result.chmod(0o644)
    return root


def test_what_its_owner_alone_may_write_is_in_no_doubt(runs: Path) -> None:
    assert doubts(runs, ["a", "b", "gone"]) == []


def test_a_thousand_runs_ask_the_system_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunDir(runs, "a").result.chmod(0o664)
    asked = []

    def is_own_group(gid: int, uid: int) -> bool:
        asked.append((gid, uid))
        return False

    monkeypatch.setattr(trust, "_is_own_group", is_own_group)
    (line,) = doubts(runs, ["a"] * 1000)
    assert line.startswith("1,000 results may be changed by the group ")
    assert len(asked) == 1
    assert len(doubts(runs, ["a"])) == 1
    assert len(asked) == 2  # and again for the next table


@as_root
def test_what_a_group_may_write_and_what_another_user_wrote(runs: Path) -> None:
    for key in ("a", "b"):
        os.chown(RunDir(runs, key).path, ALICE, LAB)
        os.chown(RunDir(runs, key).result, ALICE, LAB)
    assert doubts(runs, ["a", "b"]) == []
    RunDir(runs, "a").path.chmod(0o2775)  # the folder: another result could take its place
    RunDir(runs, "b").result.chmod(0o664)
    (line,) = doubts(runs, ["a", "b"])
    assert line.startswith(f"2 results may be changed by the group {LAB}, not by its owner alone")
    os.chown(RunDir(runs, "a").result, BOB, LAB)
    assert doubts(runs, ["a"])[1:] == [
        "1 result that another user wrote:",
        f"  a of user {ALICE}: written by user {BOB}",
    ]


@as_root
def test_collect_says_so(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first, *_ = made = runs_of(plan(), "Student")
    write(runs, made)
    assert make_report("cifar100", runs_dir=runs).notes == ()
    os.chown(RunDir(runs, first.key).result, BOB, -1)
    notes = make_report("cifar100", runs_dir=runs).notes
    named = f"  {first.key} of root: written by user {BOB}"
    assert notes == ("1 result that another user wrote:", named)
