"""`bench teachers fill` and `bench submit --fill`: what they say, and what is then there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.run.answers import answer_files, answers_root
from tests.cli.command import Ended, bench

TABLE = """
schema: 1
name: fixed
source: {paper: "none"}
dataset: digits
recipe: digits_60
protocol: {report: last}
teacher: {from: train, seed: fixed}
seeds: [0, 1]
columns: [{teacher: wrn_16_2, student: resnet8}]
rows:
  - {name: KD, methods: [kd]}
  - {name: AT, methods: [at]}
"""
SHORT = ("recipe.epochs=4", "recipe.eval_every=4", "recipe.schedule.milestones=[3]")


def run(words: str, row: str, place: Path, digits: Path) -> Ended:
    (place / "fixed.yaml").write_text(TABLE)
    sets = [word for item in SHORT for word in ("--set", item)]
    where = ["--runs", place / "runs", "--data", digits, "--only", f"row={row}"]
    return bench(*words.split(), "--table", place / "fixed.yaml", *sets, *where)


def test_it_says_what_would_be_asked(digits: Path, tmp_path: Path) -> None:
    done = run("teachers fill --cluster inline --dry-run", "KD", tmp_path, digits)
    assert done.code == 0
    assert "wrn_16_2 answers 2 packs: 800 pictures, " in done.err
    assert "training 1 run in 1 pack, asking 1 teacher beforehand, in this process" in done.err
    done = run("submit --cluster local --fill --dry-run", "KD", tmp_path, digits)
    assert "training 3 runs in 3 packs, asking 1 teacher beforehand" in done.err
    assert not (tmp_path / "runs").exists()


def test_there_may_be_nothing_to_ask(digits: Path, tmp_path: Path) -> None:
    done = run("teachers fill --cluster inline", "AT", tmp_path, digits)
    assert (done.code, done.out) == (0, "")
    assert "nothing to ask beforehand: no teacher whose answers can be kept" in done.err
    assert not (tmp_path / "runs").exists()
    assert (
        "beforehand"
        not in run("submit --cluster local --fill --dry-run", "AT", tmp_path, digits).err
    )


@pytest.mark.slow
def test_the_queue_of_this_machine_asks_first(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("submit --cluster local --fill --wait", "KD", tmp_path, digits)
    assert done.code == 0, done.err
    logs = "\n".join(path.read_text() for path in tmp_path.glob("runs/.submissions/*/logs/*.log"))
    assert "answers are kept" in logs
    before = [path.read_bytes() for path in answer_files(answers_root(tmp_path / "runs"))]
    assert before
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "1K")
    (tmp_path / "runs").rename(tmp_path / "other")
    done = run("submit --cluster local --fill --wait", "KD", tmp_path, digits)
    assert done.code == 1  # nothing was asked first, but every run has its result
    assert "allows 1.0 kB in all" in done.err
    assert "3/3 runs done" in done.err


def test_students_on_a_cluster_wait_for_who_asks(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no Slurm at hand: scripts are shown
    done = run("submit --cluster slurm --fill --dry-run", "KD", tmp_path, digits)
    assert done.code == 0, done.err
    teacher, asking, students = done.out.split("#!/bin/bash\n")[1:]
    assert "pack=digits-wrn_16_2-s0" in teacher
    assert "--dependency" not in teacher
    assert "pack=digits-answers-of-wrn_16_2" in asking
    assert "--dependency=afterany:JOB0_0\n" in asking
    assert "--array=0-1" in students
    (waits,) = re.findall(r"--dependency=afterany:(\S+)", students)
    assert set(waits.split(":")) == {"JOB0_0", "JOB1_0"}
    alone = run("teachers fill --cluster slurm --dry-run", "KD", tmp_path, digits)
    assert alone.out.count("#!/bin/bash") == 2
