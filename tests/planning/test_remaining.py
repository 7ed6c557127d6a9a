"""What of a plan is left: one diverged teacher is not its neighbours' trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.planning.matrix import Plan
from benchmark.planning.pack_size import PackSize
from benchmark.planning.remaining import remaining
from benchmark.submission.hand_over import submit_plan
from benchmark.submission.inline import InlineExecutor
from benchmark.train.teacher import TeacherMissingError, load_teacher
from tests.helpers import digits_plan, train


@pytest.fixture(scope="module")
def diverged(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table whose teachers diverge, and runs where that of seed 0 has done so."""
    root = tmp_path_factory.mktemp("diverged")
    table = root / "wild.yaml"
    table.write_text(
        """\
schema: 1
name: wild
source: {paper: none}
dataset: digits
recipe: digits_60
teacher: {from: train, seed: same, recipe: {lr: 1.0e+30}}
seeds: [0, 1]
columns: [{teacher: resnet14, student: resnet8}]
rows: [{name: Student, of: student}, {name: KD, methods: [kd]}]
"""
    )
    plan = digits_plan(digits, table=str(table))
    (teacher,) = plan.teachers
    outcome = train([teacher], digits, root / "runs")
    assert outcome.endings == {teacher.key: "diverged"}
    assert outcome.reasons[teacher.key].startswith("diverged in epoch 1")
    return table, root / "runs"


def both(table: Path, data: Path) -> Plan:
    return digits_plan(data, seeds="0-1", table=str(table))


def test_the_students_of_a_diverged_teacher_are_left_out(
    diverged: tuple[Path, Path], digits: Path
) -> None:
    table, runs_dir = diverged
    plan = both(table, digits)
    left = remaining(plan, runs_dir)
    (teacher, _) = plan.teachers
    (student,) = left.untaught
    assert student.teacher is not None
    assert student.teacher.key == teacher.key
    assert len(left.runs) == 4  # two students of their own, a teacher and what it teaches
    with pytest.raises(TeacherMissingError, match="diverged, so nothing can learn from it"):
        load_teacher(student, 10, runs_dir)


def test_a_submission_trains_what_is_healthy(
    diverged: tuple[Path, Path],
    digits: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, runs_dir = diverged
    chosen = digits_plan(digits, ["row=Student"], seeds="0-1", table=str(table))
    plan = both(table, digits)
    where = {"runs_dir": runs_dir, "data_dir": digits, "pack_size": PackSize(12)}
    submit_plan(plan, InlineExecutor(), dry_run=True, **where)  # type: ignore[arg-type]
    assert "left out" in capsys.readouterr().err
    assert submit_plan(chosen, InlineExecutor(), wait=True, **where) == 0  # type: ignore[arg-type]
    assert submit_plan(plan, InlineExecutor(), wait=True, **where) == 1  # type: ignore[arg-type]
    left = remaining(both(table, digits), runs_dir)
    assert (len(left.done), len(left.untaught)) == (4, 2)
    assert "diverged in epoch 1" in capsys.readouterr().err
