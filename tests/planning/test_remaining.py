"""What of a plan is left: one run that is broken is named, and its neighbours are trained."""

from __future__ import annotations

from pathlib import Path

from benchmark.planning.remaining import remaining
from benchmark.run.directory import RunDir
from perf.synthetic_runs import write_run
from tests.helpers import digits_plan


def test_students_of_a_teacher_that_cannot_teach_are_left_out(tmp_path: Path, digits: Path) -> None:
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"], seeds="0-4")
    teachers = {run.seed: run for run in plan.teachers}
    students = {run.seed: run for run in plan.runs if run not in plan.teachers}
    write_run(tmp_path, teachers[0], 90.0)
    write_run(tmp_path, teachers[1], 10.0, diverged=True)
    write_run(tmp_path, teachers[2], 90.0)
    RunDir(tmp_path, teachers[2].key).result.write_text("{")
    RunDir(tmp_path, teachers[3].key).create(teachers[3])
    RunDir(tmp_path, teachers[3].key).cancelled.touch()
    left = remaining(plan, tmp_path)
    assert left.done == [teachers[0], teachers[1]]
    assert left.damaged == [teachers[2]]
    assert left.cancelled == [teachers[3]]
    assert left.untaught == [students[1], students[2], students[3]]
    assert left.runs == [teachers[4], students[0], students[4]]
    assert left.readings[teachers[2].key].reason.startswith(str(tmp_path))
