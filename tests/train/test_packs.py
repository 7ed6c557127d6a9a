"""A run's numbers do not depend on who shares its process, nor on being interrupted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import read
from benchmark.train.network import Network
from tests.helpers import SHORT, digits_plan, numbers, train, train_plan

COLUMN = ["column=wrn_16_2-resnet8"]


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    """The first digits column, two epochs, each run trained alone."""
    runs_dir = tmp_path_factory.mktemp("alone")
    plan = digits_plan(digits, COLUMN)
    train_plan(plan, digits, runs_dir, size=1)
    return runs_dir, list(plan.runs)


def _copy_teacher(source: Path, target: Path, runs: list[Run]) -> None:
    keys = {run.teacher.key for run in runs if run.teacher}
    for key in keys:
        (target / key).symlink_to(source / key)


def _students(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.teacher]


def test_a_pack_gives_the_numbers_of_single_runs(
    trained: tuple[Path, list[Run]], digits: Path, tmp_path: Path
) -> None:
    alone, runs = trained
    students = _students(runs)
    assert len(students) == 6
    _copy_teacher(alone, tmp_path, runs)
    outcome = train(students, digits, tmp_path)
    assert set(outcome.endings.values()) == {"done"}
    for run in students:
        assert numbers(tmp_path, run) == numbers(alone, run), run.key
    # What it costs is told apart: the teacher's pass, and each student's share of the rest.
    results = [RunDir(tmp_path, run.key).read_result() for run in students]
    (teacher,) = {result["teacher_seconds"] for result in results}
    assert 0 < teacher < results[0]["seconds"]
    for result in results:
        own = result["student_seconds"] + teacher / len(students)
        assert result["own_seconds"] == pytest.approx(own, abs=0.01)
    untaught = next(run for run in runs if not run.teacher)
    assert RunDir(alone, untaught.key).read_result()["teacher_seconds"] is None


@pytest.mark.parametrize(
    "ticks", [2, *(pytest.param(ticks, marks=pytest.mark.slow) for ticks in (1, 3, 6))]
)
def test_an_interrupted_run_gives_the_same_numbers(
    trained: tuple[Path, list[Run]], digits: Path, tmp_path: Path, ticks: int
) -> None:
    # Two epochs of two steps, and an evaluation of four batches after each: the stops fall in
    # the middle of an epoch, at its end and inside an evaluation.
    alone, runs = trained
    students = _students(runs)
    _copy_teacher(alone, tmp_path, runs)
    calls = {"n": 0}

    def stop() -> str | None:
        calls["n"] += 1
        return "asked to" if calls["n"] == ticks else None

    outcome = train(students, digits, tmp_path, stop=stop)
    assert set(outcome.endings.values()) == {"stopped"}
    assert outcome.exit_code == 1
    for run in students:
        assert read(RunDir(tmp_path, run.key)).state == "stopped"
    outcome = train(students, digits, tmp_path)
    assert set(outcome.endings.values()) == {"done"}
    for run in students:
        assert numbers(tmp_path, run) == numbers(alone, run), run.key


def test_runs_at_different_positions_share_a_pack(
    trained: tuple[Path, list[Run]], digits: Path, tmp_path: Path
) -> None:
    alone, runs = trained
    first, second, *_ = _students(runs)
    _copy_teacher(alone, tmp_path, runs)
    calls = {"n": 0}

    def stop() -> str | None:
        calls["n"] += 1
        return "asked to" if calls["n"] == 3 else None

    train([first], digits, tmp_path, stop=stop)
    outcome = train([first, second], digits, tmp_path)
    assert set(outcome.endings.values()) == {"done"}
    for run in (first, second):
        assert numbers(tmp_path, run) == numbers(alone, run)


def test_nothing_is_trained_twice(
    trained: tuple[Path, list[Run]], digits: Path, tmp_path: Path
) -> None:
    alone, runs = trained
    before = {run.key: RunDir(alone, run.key).result.stat().st_mtime_ns for run in runs}
    outcome = train(_students(runs), digits, alone)
    assert set(outcome.endings.values()) == {"done"}
    assert outcome.exit_code == 0
    assert before == {k: RunDir(alone, k).result.stat().st_mtime_ns for k in before}


def test_seeds_give_different_numbers(
    trained: tuple[Path, list[Run]], digits: Path, tmp_path: Path
) -> None:
    alone, runs = trained
    student = next(run for run in runs if run.model == "resnet8" and not run.teacher)
    plan = digits_plan(digits, [*COLUMN, "row=Student"], seeds="1")
    train_plan(plan, digits, tmp_path)
    (other,) = plan.runs
    assert other.cell_key == student.cell_key
    assert numbers(tmp_path, other)["weights"] != numbers(alone, student)["weights"]


def test_a_diverging_run_leaves_the_others_alone(
    trained: tuple[Path, list[Run]],
    digits: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone, runs = trained
    good = next(run for run in runs if [m.name for m in run.methods] == ["kd"])
    (_, bad) = digits_plan(
        digits, [*COLUMN, "row=KD"], sets=[*SHORT, "recipe.lr=1e20", "recipe.epochs=2"]
    ).runs
    bad = Run.model_validate(bad.to_json() | {"teacher": good.to_json()["teacher"]})
    assert bad.key != good.key
    _copy_teacher(alone, tmp_path, runs)
    with caplog.at_level(logging.INFO, logger="benchmark"):
        outcome = train([bad, good], digits, tmp_path)
    assert outcome.endings == {bad.key: "diverged", good.key: "done"}
    assert f"{bad.key}: epoch 1/2, DIVERGED" in caplog.text
    result = RunDir(tmp_path, bad.key).read_result()
    assert result["diverged"]
    assert result["metrics"] == {}
    assert read(RunDir(tmp_path, bad.key)).state == "diverged"
    assert numbers(tmp_path, good) == numbers(alone, good)


@pytest.mark.slow
def test_a_packs_teacher_is_folded_once(
    trained: tuple[Path, list[Run]], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, runs = trained
    _copy_teacher(alone, tmp_path, runs)
    folded = []
    monkeypatch.setattr(Network, "fold", lambda teacher, shape: folded.append((teacher, shape)))
    train(_students(runs), digits, tmp_path)
    assert [(teacher.name, shape) for teacher, shape in folded] == [("wrn_16_2", (3, 8, 8))]
