"""Runs are deleted by name, or as a table's overrides; what others need stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.operate.delete import delete
from benchmark.run.directory import RunDir
from tests.cli.command import bench
from tests.helpers import digits_plan
from tests.results.filled import write

ONE = ("recipe.epochs=1",)
PLACE = ("row=KD", "column=wrn_16_2-resnet8")


@pytest.fixture
def runs_dir(tmp_path: Path, digits: Path) -> Path:
    """The table's own runs of one seed, and some of a recipe of one epoch."""
    for sets in ((), ONE):
        write(tmp_path / "runs", digits_plan(digits, PLACE, sets=sets).runs)
    return tmp_path / "runs"


def keys(runs_dir: Path) -> set[str]:
    return {path.name for path in runs_dir.iterdir() if not path.name.startswith(".")}


def test_overrides_go_and_the_tables_own_stay(runs_dir: Path, digits: Path) -> None:
    before = keys(runs_dir)
    own = {run.key for run in digits_plan(digits, PLACE, sets=()).runs}
    assert own < before
    words = ("delete", "--table", "digits", "--overrides", "--runs", runs_dir)
    shown = bench(*words, "--dry-run")
    assert "would delete 2 runs" in shown.out
    assert keys(runs_dir) == before
    assert "deleted 2 runs" in bench(*words).out
    assert keys(runs_dir) == own
    assert f"nothing to delete in {runs_dir}" in bench(*words).out


def test_a_teacher_stays_while_its_student_does(runs_dir: Path, digits: Path) -> None:
    teacher, student = digits_plan(digits, PLACE, sets=()).runs
    kept = delete(runs_dir, teacher.key, None, overrides=False, dry_run=False)
    assert kept.kept == {teacher.key: f"it taught {student.key}, which stays"}
    assert bench("delete", teacher.key, "--runs", runs_dir).code == 1
    shown = bench("delete", student.key, "--runs", runs_dir, "--dry-run")
    assert (shown.code, "would delete 1 run" in shown.out) == (0, True)
    assert RunDir(runs_dir, student.key).path.exists()
    assert delete(runs_dir, student.key, None, overrides=False, dry_run=False).keys == (
        student.key,
    )
    assert delete(runs_dir, teacher.key, None, overrides=False, dry_run=False).keys == (
        teacher.key,
    )
    assert not RunDir(runs_dir, teacher.key).path.exists()


@pytest.mark.parametrize(
    ("run", "table", "overrides"),
    [(None, None, False), ("a", "digits", True), (None, "digits", False), ("a", None, True)],
)
def test_what_is_meant_must_be_said(
    tmp_path: Path, run: str | None, table: str | None, overrides: bool
) -> None:
    with pytest.raises(UserError, match="say what to delete: a RUN, or --table T --overrides"):
        delete(tmp_path, run, table, overrides=overrides, dry_run=True)
