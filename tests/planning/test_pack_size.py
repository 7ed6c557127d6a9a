"""Estimates from finished runs, and the pack sizes that follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.estimate import History, read_history
from benchmark.planning.matrix import Context, make_plan
from benchmark.planning.pack_size import Limits, PackSize, parse_pack_size
from benchmark.planning.packs import DEFAULT_PACK, Pack, chunks
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import METRICS, STATISTICS
from benchmark.slurm.profile import Profile
from benchmark.submission.simulation import simulate_packs
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection


@pytest.fixture
def students(tmp_path: Path) -> list[Run]:
    """The six students of the first digits column: 80 epochs each."""
    chosen = parse_selection(["column=wrn_16_2-resnet8"], "0", [])
    plan = make_plan(load_table("digits"), chosen, Context(tmp_path, "cpu"))
    return [run for run in plan.runs if run.teacher is not None]


def finish(
    runs_dir: Path,
    run: Run,
    own_seconds: float,
    packed: int,
    peak_mb: float,
    teacher_seconds: float | None = 0.0,
    images: float | None = None,
) -> None:
    """Leave a result as a pack of ``packed`` would have left it; ``images`` of an epoch."""
    rundir = RunDir(runs_dir, run.key)
    rundir.create(run)
    result = {
        "schema": 1,
        "key": run.key,
        "diverged": False,
        "metrics": {metric: dict.fromkeys(STATISTICS, 50.0) for metric in METRICS},
        "epochs": run.recipe.epochs,
        "own_seconds": own_seconds,
        "student_seconds": own_seconds - (teacher_seconds or 0.0) / packed,
        "teacher_seconds": teacher_seconds,
        "packed": packed,
        "peak_memory_mb": peak_mb,
    }
    if images is not None:
        epochs = run.recipe.epochs
        result |= {"seconds": own_seconds, "images_per_second": images * epochs / own_seconds}
    rundir.result.write_text(json.dumps(result))


def test_costs_come_from_the_most_similar_runs(students: list[Run], tmp_path: Path) -> None:
    first, second, *_ = students
    finish(tmp_path, first, own_seconds=36.0, packed=2, peak_mb=500)
    alike = read_history(tmp_path).cost([first])
    assert alike.hours == pytest.approx(0.01)
    assert alike.measured == 1
    # Another method on the same pair is the next best thing; the closest counts as soon as it ran.
    assert read_history(tmp_path).cost([second]).hours == pytest.approx(0.01)
    finish(tmp_path, second, own_seconds=72.0, packed=2, peak_mb=500)
    assert read_history(tmp_path).cost([second]).hours == pytest.approx(0.02)
    assert read_history(tmp_path).cost([first, second]).hours == pytest.approx(0.03)
    # Twice as many epochs, twice the hours.
    longer = first.model_copy(
        update={"recipe": first.recipe.model_copy(update={"epochs": 2 * first.recipe.epochs})}
    )
    assert read_history(tmp_path).cost([longer]).hours == pytest.approx(0.02)


def test_a_pack_pays_for_its_teacher_once(students: list[Run], tmp_path: Path) -> None:
    first, second, third, *_ = students
    finish(tmp_path, first, own_seconds=36.0, packed=4, peak_mb=500, teacher_seconds=72.0)
    history = read_history(tmp_path)
    # As one of four it took 18 s of its own and a quarter of the teacher's 72 s.
    assert history.cost([first]).hours == pytest.approx(90 / 3600)
    assert history.cost([first, second, third]).hours == pytest.approx((3 * 18 + 72) / 3600)
    # A student that was seen beside another teacher alone: that teacher's pass is a guess.
    finish(tmp_path, second.model_copy(update={"model": "resnet14"}), 36.0, 4, 500, 72.0)
    assert first.teacher is not None
    taught = first.teacher.model_copy(update={"model": "resnet56"})
    assert read_history(tmp_path).cost([first.model_copy(update={"teacher": taught})]).measured == 0


def test_a_teacher_of_its_own_is_no_measure_of_the_shared_one(
    students: list[Run], tmp_path: Path
) -> None:
    first, second, *_ = students
    finish(tmp_path, first, own_seconds=36.0, packed=1, peak_mb=500, teacher_seconds=18.0)
    finish(tmp_path, second, own_seconds=72.0, packed=1, peak_mb=500, teacher_seconds=None)
    history = read_history(tmp_path)
    for run, hours in ((first, 0.01), (second, 0.02)):
        cost = history.cost([run])
        assert (cost.hours, cost.measured) == (pytest.approx(hours), 1)
    assert history.cost([first, second]).hours == pytest.approx(0.03)


def test_other_networks_and_batches_are_no_measure(students: list[Run], tmp_path: Path) -> None:
    first = students[0]
    finish(tmp_path, first, own_seconds=36.0, packed=4, peak_mb=500, teacher_seconds=72.0)
    history = read_history(tmp_path)
    assert history.cost([first]).measured == 1
    assert history.cost([first.model_copy(update={"model": "resnet14"})]).measured == 0
    larger = first.recipe.model_copy(update={"batch_size": 2 * first.recipe.batch_size})
    assert history.cost([first.model_copy(update={"recipe": larger})]).measured == 0


def test_a_larger_pack_is_taken_to_need_as_much_more(students: list[Run], tmp_path: Path) -> None:
    finish(tmp_path, students[0], own_seconds=10.0, packed=2, peak_mb=500)
    history = read_history(tmp_path)
    found = [history.cost(students[:size]).memory_mb for size in (1, 2, 4, 6)]
    assert found == pytest.approx([500, 500, 1000, 1500])


def test_what_was_never_seen_is_called_a_guess(students: list[Run]) -> None:
    assert History({}).cost(students).measured == 0
    assert History({}).cost(students).hours > 0


def test_broken_results_are_passed_over(students: list[Run], tmp_path: Path) -> None:
    finish(tmp_path, students[0], own_seconds=36.0, packed=1, peak_mb=500)
    RunDir(tmp_path, students[0].key).result.write_text("{")
    assert read_history(tmp_path).cost(students).measured == 0


@pytest.mark.parametrize(
    ("text", "limits", "sizes"),
    [
        ("4", Limits(), [3, 3]),
        ("", Limits(), [6]),
        # Measured: 500 MB for two, so 750 for three; 0.01 hours a run.
        ("6", Limits(memory_mb=900), [3, 3]),
        ("6", Limits(memory_mb=700), [2, 2, 2]),
        ("auto", Limits(memory_mb=900), [3, 3]),
        ("auto", Limits(hours=0.025), [2, 2, 2]),
        ("auto", Limits(hours=0.001), [1, 1, 1, 1, 1, 1]),
        # A number is not lowered for the sake of the time limit: a pack may be requeued.
        ("6", Limits(hours=0.001), [6]),
    ],
)
def test_packs_that_do_not_fit_are_split(
    text: str, limits: Limits, sizes: list[int], students: list[Run], tmp_path: Path
) -> None:
    finish(tmp_path, students[0], own_seconds=36.0, packed=2, peak_mb=500)
    sizer = parse_pack_size(text).sizer(tmp_path, lambda _: limits)
    assert [len(runs) for runs in chunks(students, sizer(students))] == sizes


def test_a_guess_lowers_no_number_that_was_asked_for(students: list[Run], tmp_path: Path) -> None:
    tight = Limits(memory_mb=1.0)
    assert PackSize(4, asked=True).sizer(tmp_path, lambda _: tight)(students) == 4
    assert PackSize(None).sizer(tmp_path, lambda _: tight)(students) == 1
    assert parse_pack_size("").sizer(tmp_path, lambda _: tight)(students) == 1


def test_nothing_measured_gives_the_default_size(students: list[Run], tmp_path: Path) -> None:
    many = [*students, *students, *students]
    short = Limits(hours=1e-6)  # a guess of hours splits nothing: a pack may cross time limits
    assert PackSize(None).sizer(tmp_path, lambda _: short)(many) == DEFAULT_PACK
    finish(tmp_path, students[0], own_seconds=36.0, packed=2, peak_mb=500)
    assert PackSize(None).sizer(tmp_path)(many) == len(many)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--pack .*: expected a number of runs from 1 up, or auto"):
        parse_pack_size(text)


def test_simulated_packs_take_what_was_measured(students: list[Run], tmp_path: Path) -> None:
    finish(tmp_path, students[0], own_seconds=3600.0, packed=1, peak_mb=500)
    packs = [Pack("digits", (run,)) for run in students]
    profile = Profile.model_validate({"time": "10:00:00", "array-parallelism": 3})
    lines = "\n".join(simulate_packs(packs, profile, tmp_path))
    assert "done after 2.01 hours, 6.03 CPU-hours, 6 starts" in lines
    assert "from runs of these networks that were measured here" in lines
    one = "\n".join(simulate_packs(packs, profile, tmp_path, slots=1, preemptions_per_hour=2.0))
    assert "18 starts" in one  # an hour in spells of half an hour, less 20 seconds each
    slow = "\n".join(simulate_packs(packs, profile, tmp_path, start_seconds=1800.0))
    assert "done after 3.00 hours" in slow
    with pytest.raises(UserError, match="say how many tasks run at a time with --slots"):
        simulate_packs(packs, Profile(), tmp_path)
