"""Which runs are a table's own, what sets others apart, and that they are never mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.results import assign
from benchmark.results.grid import State
from benchmark.results.judge import judge
from benchmark.run.identity import Run
from tests.results.filled import COLUMN, cell, collected, notes, plan, runs_of, write

SHORT = ("recipe.epochs=3", "recipe.schedule.milestones=[2]")


def test_overrides_are_shown_and_named_only_where_no_own_run_is(tmp_path: Path) -> None:
    short = plan(seeds="0-1", sets=SHORT)
    write(tmp_path, short.runs, 40.0)
    write(tmp_path, runs_of(plan(), "KD"), 70.0)
    found = collected(tmp_path)
    there = cell(found, "DKD")
    assert (there.mean, there.n, there.planned) == (40.0, 2, 5)
    assert there.overrides == (
        "recipe.epochs = 3",
        "recipe.schedule.milestones = [2]",
        "its teacher likewise",
    )
    assert (cell(found, "KD").mean, cell(found, "KD").overrides) == (70.0, ())
    assert cell(found, "Student").overrides == there.overrides[:2]
    texts = {m.text for m in judge(found.grid).cells["DKD", COLUMN, "top1"].marks}
    assert f"override: {', '.join(there.overrides)}" in texts


def test_a_diverged_own_run_is_not_replaced_by_an_override(tmp_path: Path) -> None:
    write(tmp_path, runs_of(plan(sets=SHORT), "KD"), 40.0)
    write(tmp_path, runs_of(plan(), "KD")[:1], diverged=True)
    there = cell(collected(tmp_path), "KD")
    assert (there.mean, there.diverged_seeds, there.overrides) == (None, (0,), ())


def test_own_runs_that_are_not_finished_are_said_beside_overrides(tmp_path: Path) -> None:
    write(tmp_path, runs_of(plan(sets=SHORT), "KD"), 40.0)
    write(tmp_path, runs_of(plan(), "KD")[:1], finished=False)
    found = collected(tmp_path)
    assert cell(found, "KD").mean == 40.0
    assert "the table's own runs are not finished yet" in notes(found, "KD")


def test_different_overrides_are_never_mixed(tmp_path: Path) -> None:
    three, four = (plan(sets=(f"recipe.epochs={epochs}",)) for epochs in (3, 4))
    write(tmp_path, [*three.teachers, *runs_of(three, "KD")[:3]], 40.0)
    write(tmp_path, [*four.teachers, *runs_of(four, "KD")[:2]], 50.0)
    sweep = ("method.kd.temperature=2,8",)
    write(tmp_path, runs_of(plan(sets=sweep, seeds="0"), "KD"), 60.0)
    found = collected(tmp_path)
    there = cell(found, "KD")
    assert (there.mean, there.n) == (40.0, 3)
    assert "4 further runs with other overrides not counted" in notes(found, "KD")
    told = [dict(group.differences) for group in found.groups["KD", COLUMN]]
    assert {"kd.options.temperature": (2.0, 4.0)} in told
    assert {"recipe.epochs": (4, 240), "teacher.recipe.epochs": (4, 240)} in told


def test_runs_on_other_data_are_overrides(tmp_path: Path) -> None:
    run = runs_of(plan(), "Student")[0]
    subset = run.model_copy(update={"dataset": run.dataset.model_copy(update={"digest": "sha"})})
    write(tmp_path, [Run.model_validate(subset.to_json())])
    assert cell(collected(tmp_path), "Student").overrides == ("data: not the official set",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"versions": {"engine": 0}}, "version 0 of engine"),
        ({"methods": {"version": 0}}, "version 0 of kd"),
        ({"methods": {"options": {"temperature": 1.0}}}, "kd.temperature = 1.0"),
    ],
)
def test_versions_and_options_that_differ_are_named(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    data = runs_of(plan(), "KD")[0].to_json()
    data["versions"].update(change.get("versions", {}))
    for name, value in change.get("methods", {}).items():
        method = data["methods"][0]
        method[name] = {**method[name], **value} if isinstance(value, dict) else value
    write(tmp_path, [Run.model_validate(data)])
    assert cell(collected(tmp_path), "KD").overrides == (told,)


def test_a_run_of_another_tables_row_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    other = runs_of(plan("dhkd-incompatibility"), "CE + BinaryKL")
    write(tmp_path, other)
    found = collected(tmp_path, "dhkd-incompatibility")
    assert cell(found, "CE + BinaryKL").n == 5
    assert cell(found, "BinaryKL").n == 0  # the same method, with another weight on the labels
    assert all(cell.n == 0 for cell in collected(tmp_path).grid.cells.values())


@pytest.mark.slow
def test_tables_share_the_runs_of_cells_that_they_share(tmp_path: Path) -> None:
    shared = {v.cell_key for s in plan("cifar100-crd").slots for v in s.variants} & {
        v.cell_key for s in plan().slots for v in s.variants
    }
    runs = runs_of(plan(), "RKD")
    assert runs[0].cell_key in shared
    write(tmp_path, runs)
    for table in ("cifar100", "cifar100-crd"):
        there = cell(collected(tmp_path, table), "RKD")
        assert (there.n, there.overrides) == (5, ())
        assert there.runs == tuple(run.key for run in runs)


# -- what a table leaves open: devices and teachers -----------------------------------------


def test_runs_of_two_devices_are_both_own_and_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, runs_of(plan(device="cuda"), "KD")[:2], 71.0)
    write(tmp_path, runs_of(plan(device="cpu"), "KD"), 70.0)
    found = collected(tmp_path)
    there = cell(found, "KD")
    assert (there.mean, there.n, there.overrides) == (70.0, 5, ())
    assert "2 further runs of the table's own not counted (on cuda" in notes(found, "KD")


def test_a_teacher_trained_on_another_device_is_told_apart(tmp_path: Path) -> None:
    cuda, cpu = (runs_of(plan(device=device), "KD") for device in ("cuda", "cpu"))
    assert cpu[0].teacher is not None
    mixed = [
        Run.model_validate({**run.to_json(), "teacher": cpu[0].teacher.model_dump()})
        for run in cuda
    ]
    write(tmp_path, cuda, 70.0)
    write(tmp_path, mixed[:2], 60.0)
    found = collected(tmp_path)
    assert (cell(found, "KD").mean, cell(found, "KD").n) == (70.0, 5)
    assert "2 further runs of the table's own" in notes(found, "KD")
    assert "teacher trained here on cpu" in notes(found, "KD")


def with_public_teacher(run: Run, sha256: str) -> Run:
    assert run.teacher is not None
    teacher = {"model": run.teacher.model, "source": "registry", "key": sha256}
    return Run.model_validate({**run.to_json(), "teacher": teacher})


def test_the_public_teacher_and_one_trained_here_are_both_own_and_not_mixed(
    tmp_path: Path,
) -> None:
    runs = runs_of(plan(), "KD")
    write(tmp_path, [with_public_teacher(run, "a" * 64) for run in runs[:3]], 71.0)
    write(tmp_path, runs[:2], 70.0)
    found = collected(tmp_path)
    there = cell(found, "KD")
    assert (there.mean, there.n, there.overrides) == (71.0, 3, ())
    assert "teacher trained here" in notes(found, "KD")
    kinds = {group.kind for group in found.groups["KD", COLUMN]}
    assert "on cuda, public checkpoint aaaaaaaa" in kinds


def test_another_file_than_the_registered_teacher_is_an_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = assign.registered

    def registered(dataset: str, model: str) -> Any:
        known = real(dataset, model)
        return known and known.model_copy(update={"sha256": "b" * 64})

    monkeypatch.setattr(assign, "registered", registered)
    run = runs_of(plan(), "KD")[0]
    write(tmp_path, [with_public_teacher(run, "a" * 64)])
    assert cell(collected(tmp_path), "KD").overrides == ("its teacher: public checkpoint aaaaaaaa",)
    write(tmp_path, [with_public_teacher(run, "b" * 64)], 71.0)
    assert (cell(collected(tmp_path), "KD").mean, cell(collected(tmp_path), "KD").n) == (71.0, 1)


def test_an_evaluated_teacher_is_exact_and_never_a_student(tmp_path: Path) -> None:
    (teacher,) = runs_of(plan(), "Teacher")
    public = Run.model_validate({**teacher.to_json(), "weights": "c" * 64})
    write(tmp_path, [public], 72.34)
    there = cell(collected(tmp_path), "Teacher")
    assert (there.exact, there.state, there.mean, there.overrides) == (True, State.DONE, 72.34, ())
    student = runs_of(plan(), "Student")[0]
    write(tmp_path, [Run.model_validate({**student.to_json(), "weights": "c" * 64})])
    assert cell(collected(tmp_path), "Student").n == 0


def test_what_lies_on_this_machine_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "runs", plan().runs)
    before = collected(tmp_path / "runs").grid
    folder = tmp_path / "teachers" / "cifar_teachers" / "resnet56_vanilla"
    folder.mkdir(parents=True)
    (folder / "ckpt_epoch_240.pth").write_bytes(b"some weights")
    monkeypatch.setenv("BENCH_TEACHERS", str(tmp_path / "teachers"))
    assert collected(tmp_path / "runs").grid == before


def test_one_teacher_for_all_seeds_is_that_of_seed_zero(tmp_path: Path) -> None:
    (teacher,) = runs_of(plan(), "Teacher")
    other = Run.model_validate({**teacher.to_json(), "seed": 3})
    write(tmp_path, [teacher], 72.0)
    write(tmp_path, [other], 62.0)
    there = cell(collected(tmp_path), "Teacher")
    assert (there.mean, there.n, there.planned) == (72.0, 1, 1)


def test_a_student_of_another_teacher_is_an_override(tmp_path: Path) -> None:
    run = runs_of(plan(), "KD")[0]
    short = runs_of(plan(sets=SHORT), "Teacher")[0]
    assert run.teacher is not None
    teacher = {**run.teacher.model_dump(), "key": short.key}
    taught = Run.model_validate({**run.to_json(), "teacher": teacher})
    assert taught.cell_key == run.cell_key
    write(tmp_path, [taught])
    there = cell(collected(tmp_path), "KD")
    assert there.overrides == ("another teacher, whose run is not here",)
    write(tmp_path, [short])
    there = cell(collected(tmp_path), "KD")
    assert there.overrides == (
        "its teacher: recipe.epochs = 3",
        "its teacher: recipe.schedule.milestones = [2]",
    )


def test_a_seed_beyond_the_tables_counts_with_the_teacher_of_its_seed(tmp_path: Path) -> None:
    column = "wrn_16_2-resnet8"
    planned = plan("digits", only=(f"column={column}",), seeds="0-4", device="cpu")
    first, *others = runs_of(planned, "KD")
    write(tmp_path, others)
    assert others[0].teacher is not None
    teacher = others[0].teacher.model_dump()  # of seed 1
    write(tmp_path, [Run.model_validate({**first.to_json(), "teacher": teacher})], 10.0)
    there = cell(collected(tmp_path, "digits"), "KD", column)
    assert (there.seeds, there.mean, there.overrides) == ((1, 2, 3, 4), 70.0, ())
    write(tmp_path, planned.teachers)
    groups = collected(tmp_path, "digits").groups["KD", column]
    assert [dict(group.differences) for group in groups] == [{"teacher.seed": (1, 0)}, {}]
