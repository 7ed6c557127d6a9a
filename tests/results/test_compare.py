"""bench compare: what changed between two sets of runs, and the exit code that says so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.results.compare import RunSetComparison, compare
from benchmark.results.priors import BEST_FACTOR
from benchmark.results.run_set import read_run_set
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from perf.synthetic_runs import write_run
from tests.results.filled import edit, plan, runs_of, write
from tests.results.test_report import bench

ROWS = ("Student", "FitNet", "KD", "DKD")


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "a", tmp_path / "b"


def fill(folder: Path, rows: Any = ROWS, seeds: str = "0-4", shift: float = 0.0) -> None:
    """Write a row's runs with seed noise that is the same in every folder."""
    for row in rows:
        for run in runs_of(plan(seeds=seeds), row):
            write_run(folder, run, 70.0 + shift)


def words(found: RunSetComparison) -> dict[str, str]:
    return {
        cell.name.rpartition("-")[2]: "changed"
        if cell.changed
        else "identical"
        if cell.identical
        else "noise"
        for cell in found.cells
    }


def test_a_set_equals_itself(sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = sets
    fill(a)
    fill(b)
    assert set(words(compare(a, b)).values()) == {"identical"}
    assert bench("compare", a, b) == 0
    assert "4 cells compared: 0 changed beyond noise, 4 identical" in capsys.readouterr().out


def test_one_changed_cell_is_found_and_the_exit_code_says_so(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = sets
    fill(a)
    fill(b, ("Student", "FitNet", "DKD"))
    fill(b, ("KD",), shift=-2.0)
    found = compare(a, b)
    assert words(found) == {
        "resnet20": "identical",
        "fitnet": "identical",
        "dkd": "identical",
        "kd": "changed",
    }
    (cell,) = [cell for cell in found.cells if cell.changed]
    assert cell.delta == pytest.approx(-2.0)
    assert cell.low is not None
    assert cell.high is not None
    assert cell.low < -2.0 < cell.high < 0.0
    assert bench("compare", a, b) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("CHANGED")
    assert lines[-1] == "4 cells compared: 1 changed beyond noise, 3 identical"
    assert bench("compare", a, b, "--json") == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["changed"], len(data["cells"])) == (1, True, 4)


def test_noise_is_not_a_change(sets: tuple[Path, Path]) -> None:
    a, b = sets
    fill(a)
    for row in ROWS:  # the same seeds, on another machine: as far apart as two seeds are
        for run in runs_of(plan(), row):
            donor = Run.model_validate({**run.to_json(), "seed": run.seed + 50})
            result = write_run(b.parent / "donors", donor, 70.0)
            write(b, [run])
            edit(RunDir(b, run.key).result, metrics=result["metrics"])
    found = compare(a, b)
    assert set(words(found).values()) == {"noise"}
    # Five seeds do not show that a cell is no worse than 0.01; they do for two points.
    assert bench("compare", a, b, "--margin", "0.01") == 3
    assert bench("compare", a, b, "--margin", "2") == 0
    assert all(cell.no_worse_than is not None for cell in found.cells)


def test_a_little_worse_in_every_cell_is_a_change(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """0.2 points hide in each of forty cells of three seeds, and show in their mean."""
    a, b = sets
    base = runs_of(plan(), "KD")[:3]
    for number in range(40):
        for run in base:
            method = {**run.to_json()["methods"][0]}
            method["options"] = {**method["options"], "temperature": 2.0 + number}
            cell = Run.model_validate({**run.to_json(), "methods": [method]})
            write_run(a, cell, 70.0)
            donor = Run.model_validate({**cell.to_json(), "seed": cell.seed + 50})
            other = write_run(b.parent / "donors", donor, 69.8)
            write(b, [cell])
            edit(RunDir(b, cell.key).result, metrics=other["metrics"])
    found = compare(a, b)
    assert not any(cell.changed for cell in found.cells)
    assert found.mean is not None
    assert found.mean.high < 0
    assert [shift.kind for shift in found.off] == ["table"]
    assert bench("compare", a, b) == 1
    assert "SHIFTED" in capsys.readouterr().out


def test_many_cells_are_not_a_false_alarm(sets: tuple[Path, Path]) -> None:
    # Forty cells of pure noise: without Holm's correction two of them would alarm.
    a, b = sets
    base = runs_of(plan(), "KD")[:3]
    for number in range(40):
        for run in base:
            method = {**run.to_json()["methods"][0]}
            method["options"] = {**method["options"], "temperature": 2.0 + number}
            cell = Run.model_validate({**run.to_json(), "methods": [method]})
            write_run(a, cell, 70.0)
            other = write_run(b, cell, 70.0)
            donor = Run.model_validate({**cell.to_json(), "seed": cell.seed + 50})
            other = write_run(b.parent / "donors", donor, 70.0)
            edit(RunDir(b, cell.key).result, metrics=other["metrics"])
    found = compare(a, b)
    assert len(found.cells) == 40
    assert not found.changed


def test_unequal_seeds_are_compared_by_their_means(sets: tuple[Path, Path]) -> None:
    a, b = sets
    fill(a, ("KD", "DKD"), "0-2")
    fill(b, ("KD",), "1-7")
    fill(b, ("DKD",), "3-6", shift=1.5)
    found = compare(a, b)
    assert words(found) == {"kd": "noise", "dkd": "changed"}
    (kd,) = [cell for cell in found.cells if not cell.changed]
    assert (kd.n_a, kd.n_b) == (3, 7)


def test_one_seed_on_each_side_is_judged_by_the_known_noise(sets: tuple[Path, Path]) -> None:
    a, b = sets
    write(a, runs_of(plan(seeds="0"), "KD"), 70.0)
    write(b, runs_of(plan(seeds="0"), "KD"), 70.4)
    assert words(compare(a, b)) == {"kd": "noise"}
    write(a, runs_of(plan(seeds="0"), "DKD"), 70.0)
    write(b, runs_of(plan(seeds="0"), "DKD"), 72.0)
    assert words(compare(a, b))["dkd"] == "changed"


def test_versions_and_devices_do_not_hide_a_cell(sets: tuple[Path, Path]) -> None:
    a, b = sets
    fill(a, ("KD",))
    for run in runs_of(plan(device="cpu"), "KD"):
        data = run.to_json()
        data["versions"]["engine"] = 9
        data["methods"][0]["version"] = 9
        write_run(b, Run.model_validate(data), 68.0)
    assert words(compare(a, b)) == {"kd": "changed"}


def test_of_several_versions_the_common_one_is_compared_and_named(
    sets: tuple[Path, Path],
) -> None:
    a, b = sets
    fill(a, ("KD",))
    fill(b, ("KD",))
    for run in runs_of(plan(), "KD"):
        write_run(b, Run.model_validate({**run.to_json(), "versions": {"engine": 9}}), 60.0)
    (cell,) = compare(a, b).cells
    assert cell.identical
    assert "B has 2 versions or devices of it" in cell.note
    assert [c.identical for c in compare(b, b).cells] == [True]  # two versions and all


def test_a_seed_that_diverges_on_one_side_is_a_change(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = sets
    fill(a, ("KD", "DKD"), "0-2")
    fill(b, ("DKD",), "0-2")
    write(b, runs_of(plan(), "KD")[:3], diverged=True)
    found = compare(a, b)
    assert words(found) == {"kd": "changed", "dkd": "identical"}
    (cell,) = [cell for cell in found.cells if cell.changed]
    assert (cell.diverged, cell.mean_b, cell.delta) == ((0, 1, 2), None, None)
    assert bench("compare", a, b, "--json") == 1
    assert not any(
        isinstance(value, float) and math.isnan(value)
        for cell in json.loads(capsys.readouterr().out)["cells"]
        for value in cell.values()
    )
    assert bench("compare", a, b) == 1
    assert "seeds 0, 1, 2 diverged on one side" in capsys.readouterr().out
    assert words(compare(b, b)) == {"kd": "identical", "dkd": "identical"}


def test_an_evaluated_checkpoint_has_no_noise(sets: tuple[Path, Path]) -> None:
    a, b = sets
    (teacher,) = runs_of(plan(), "Teacher")
    public = Run.model_validate({**teacher.to_json(), "weights": "c" * 64})
    write(a, [public], 72.34)
    write(b, [public], 72.36)  # other arithmetic tips two images over
    assert not compare(a, b).changed
    edit(RunDir(b, public.key).result, metrics=write_run(a / "x", public, 72.1)["metrics"])
    assert compare(a, b).changed


def test_other_teachers_are_named(sets: tuple[Path, Path]) -> None:
    a, b = sets
    fill(a, ("KD",))
    fill(b, ("KD",))
    short = plan(sets=("recipe.epochs=3",))
    write(a, plan().teachers)
    write(b, short.teachers)
    for run in runs_of(plan(), "KD"):
        data = run.to_json()
        data["teacher"]["key"] = short.teachers[0].key
        write_run(b, Run.model_validate({**data, "seed": run.seed + 5}), 70.0)
        RunDir(b, run.key).result.unlink()
    (cell,) = [cell for cell in compare(a, b).cells if cell.name.endswith("kd")]
    assert "their teachers are of different cells" in cell.note


def test_a_cell_that_vanishes_is_a_change_and_a_new_one_is_not(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = sets
    fill(a, ("KD", "DKD"))
    fill(b, ("KD", "FitNet"))
    found = compare(a, b)
    assert [name.rsplit("-", 1)[0] for name in found.only_a] == ["cifar100-resnet56-resnet20-dkd"]
    assert bench("compare", a, b) == 1
    printed = capsys.readouterr().out
    assert f"GONE from B  {found.only_a[0]}\n" in printed
    assert printed.endswith("; 1 of A gone from B; 1 only in B\n")
    assert bench("compare", a, b, "--json") == 1
    assert json.loads(capsys.readouterr().out)["only_a"] == list(found.only_a)
    fill(b, ("DKD",))
    assert bench("compare", a, b) == 0
    assert capsys.readouterr().out.endswith("; 1 only in B\n")


def test_what_cannot_be_counted_is_named(sets: tuple[Path, Path]) -> None:
    a, b = sets
    fill(a, ("KD",))
    fill(b, ("KD",))
    RunDir(b, runs_of(plan(), "KD")[0].key).result.write_text("{")
    found = compare(a, b)
    assert (found.cells[0].n_a, found.cells[0].n_b) == (5, 4)
    assert len(found.b.problems) == 1
    assert "; 1 run not counted" in found.summary()


@pytest.mark.parametrize("there", [[], ["a"], ["a", "b"]])
def test_nothing_in_common_is_wrong_use(
    there: list[str], sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, row in zip(sets, ("KD", "DKD"), strict=True):
        if folder.name in there:
            fill(folder, (row,))
    assert bench("compare", *sets) == 2
    message = "no ended cell is in both" if len(there) == 2 else "is no directory of runs"
    assert message in capsys.readouterr().err


def test_other_metrics_and_protocols_can_be_compared(sets: tuple[Path, Path]) -> None:
    a, b = sets
    fill(a, ("KD",))
    fill(b, ("KD",))
    first = runs_of(plan(), "KD")[0]
    metrics = json.loads(RunDir(b, first.key).result.read_text())["metrics"]
    metrics["top5"]["best"] += 0.01
    edit(RunDir(b, first.key).result, metrics=metrics)
    assert compare(a, b).cells[0].identical
    assert not compare(a, b, "top5", "best").cells[0].identical
    with pytest.raises(UserError, match="unknown metric 'top2'"):
        compare(a, b, "top2")
    with pytest.raises(UserError, match="did you mean 'last'"):
        compare(a, b, "top1", "lst")


def test_noise_is_that_of_the_metric_and_the_protocol(sets: tuple[Path, Path]) -> None:
    fill(sets[0])
    (last, best) = (read_run_set(sets[0], "top1", name) for name in ("last", "best"))
    for key, cells in last.cells.items():
        for one, other in zip(cells, best.cells[key], strict=True):
            assert other.prior.sigma == pytest.approx(BEST_FACTOR * one.prior.sigma)


def test_real_runs_equal_themselves(trained: Path) -> None:
    found = compare(trained / "runs", trained / "runs")
    assert len(found.cells) == 3
    assert all(cell.identical for cell in found.cells)


@pytest.mark.slow
def test_by_a_tables_places_whatever_the_options(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = sets
    fill(a)
    fill(b, rows=("Student", "FitNet"))
    other = plan(seeds="0-4", sets=("method.kd.temperature=2", "method.dkd.beta=5"))
    for row in ("KD", "DKD"):
        for run in runs_of(other, row):
            write_run(b, run, 71.5)
    assert {cell.name.rpartition("-")[2] for cell in compare(a, b).cells} == {"resnet20", "fitnet"}
    capsys.readouterr()
    assert bench("compare", a, b, "--table", "cifar100") == 1
    said = capsys.readouterr().out
    assert "4 cells compared: " in said
    (line,) = [
        line for line in said.splitlines() if "KD, resnet56-resnet20" in line and "DKD" not in line
    ]
    assert line.startswith("CHANGED")
    assert "A: as the table says; B: kd.temperature = 2.0" in line
    assert {cell.name for cell in compare(a, b, table="cifar100").cells} == {
        f"{row}, resnet56-resnet20" for row in ROWS
    }
    assert bench("compare", a, b, "--table", "cifar10O") == 2
    assert bench("compare", a, b, "--table", "cifar100", "--metric", "top5") == 2
