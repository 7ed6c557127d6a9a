"""Logs of runs, and the names that people give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.monitor.find import match
from benchmark.operate.logs import read_log
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from tests.cli.command import bench
from tests.submitted import started

pytestmark = pytest.mark.usefixtures("called")


def test_logs_are_found_by_a_part_of_the_runs_name(runs_dir: Path, students: list[Run]) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "96_3_0_log.out").write_text("epoch 1\n")
    assert "".join(read_log(runs_dir, students[3].key[:-4]).parts) == "epoch 1\n"
    with pytest.raises(UserError, match="task 96_2 has not started"):
        read_log(runs_dir, students[2].key)


def test_logs_are_shown_and_not_obeyed(runs_dir: Path, students: list[Run]) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "96_3_0_log.out").write_bytes(b"epoch 1\r\n\x1b[2Jtwo\n" + b"x" * 2_500_000)
    ended = bench("logs", students[3].key, "--runs", runs_dir)
    assert ended.out == "epoch 1\n\\x1b[2Jtwo\n" + "x" * 2_500_000
    parts = read_log(runs_dir, students[3].key).parts
    assert max(map(len, parts)) <= 1_000_000


def test_a_followed_log_ends_with_its_run(
    runs_dir: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    log = folder / "96_4_0_log.out"
    log.write_text("one\n")
    rundir = started(runs_dir, students[4])

    def sleep(_seconds: float) -> None:
        with log.open("a") as file:
            file.write("two\n")
        rundir.result.write_text("{}")

    monkeypatch.setattr("benchmark.operate.logs.time.sleep", sleep)
    assert "".join(read_log(runs_dir, students[4].key, follow=True).parts) == "one\ntwo\n"


def test_a_followed_log_ends_with_a_run_that_leaves_no_word(
    runs_dir: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Task 96_1 was cancelled with scancel, 96_4 runs until it is cancelled."""
    (folder,) = (runs_dir / ".submissions").iterdir()
    for number in (1, 4):
        (folder / f"96_{number}_0_log.out").write_text("one\n")
        started(runs_dir, students[number])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            RunDir(runs_dir, students[4].key).cancelled.touch()

    monkeypatch.setattr("benchmark.operate.logs.time.sleep", sleep)
    assert list(read_log(runs_dir, students[1].key, follow=True).parts) == ["one\n"]
    assert slept == []
    assert next(read_log(runs_dir, students[4].key, follow=True).parts) == "one\n"
    list(read_log(runs_dir, students[4].key, follow=True).parts)
    assert len(slept) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("digits-", "names 2 runs: digits-kd-s0-aa, digits-kd-s1-bb; give more"),
        ("kd-s1", None),
        ("digits-kt-s0", "did you mean 'digits-kd-s0-aa'"),
        ("zzz", r"no run 'zzz' in runs \(2 runs\)$"),
    ],
)
def test_names_of_runs(text: str, told: str | None) -> None:
    keys = ["digits-kd-s0-aa", "digits-kd-s1-bb"]
    if told is None:
        assert match(text, keys, Path("runs")) == keys[1]
    else:
        with pytest.raises(UserError, match=told):
            match(text, keys, Path("runs"))
