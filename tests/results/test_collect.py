"""What stands in the cells of a filled table: real runs, states, protocols, selections."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.base.files import write_json
from benchmark.planning.packs import make_packs
from benchmark.results.grid import Grid, MarkKind, State
from benchmark.results.judge import judge
from benchmark.results.render import json as json_renderer
from benchmark.run.directory import RunDir
from benchmark.run.lease import Lease
from benchmark.submission.submission import new_submission
from perf.synthetic_runs import write_run, write_runs
from tests.results.filled import COLUMN, cell, collected, edit, notes, plan, runs_of, write

# -- real runs ------------------------------------------------------------------------------


def results(root: Path, slug: str) -> list[dict[str, Any]]:
    """The results of a cell by the readable part of its key, in order of seed."""
    found = [json.loads(path.read_text()) for path in root.glob("runs/*/result.json")]
    mine = [result for result in found if result["cell"].rpartition("-")[0] == slug]
    return sorted(mine, key=lambda result: int(result["seed"]))


def test_real_runs_fill_their_table(trained: Path) -> None:
    found = collected(trained / "runs", str(trained / "tiny.yaml"))
    assert found.problems == []
    for row, slug in (("Teacher", "digits-wrn_16_2"), ("Student", "digits-resnet8")):
        there = cell(found, row, "wrn_16_2-resnet8")
        expected = [r["metrics"]["top1"]["last"] for r in results(trained, slug)]
        assert there.values == tuple(expected)
        assert (there.state, there.n, there.overrides) == (State.DONE, 2, ())
    there = cell(found, "KD", "wrn_16_2-resnet8")
    runs = results(trained, "digits-wrn_16_2-resnet8-kd")
    for sample in there.samples:
        assert sample.values == tuple(r["metrics"]["top1"][sample.statistic] for r in runs)
    assert there.mean == statistics.fmean(r["metrics"]["top1"]["last"] for r in runs)
    assert there.runs == tuple(r["key"] for r in runs)


def test_made_up_results_have_only_fields_of_real_ones(trained: Path, tmp_path: Path) -> None:
    def fields(data: Any, prefix: str = "") -> set[str]:
        if not isinstance(data, dict):
            return {prefix}
        return {name for key, value in data.items() for name in fields(value, f"{prefix}.{key}")}

    real = results(trained, "digits-wrn_16_2-resnet8-kd")[0]
    assert fields(write_run(tmp_path, plan().runs[0], 70.0)) <= fields(real)


def test_real_runs_of_a_short_recipe_are_overrides_of_the_digits_table(trained: Path) -> None:
    found = collected(trained / "runs", "digits")
    there = cell(found, "KD", "wrn_16_2-resnet8")
    assert there.overrides == (
        "recipe.epochs = 2",
        "recipe.eval_every = 1",
        "recipe.schedule.milestones = [1]",
        "its teacher likewise",
    )
    assert there.n == 2
    assert there.state is State.PARTIAL  # the table wants three seeds
    assert cell(found, "DKD", "wrn_16_2-resnet8").state is State.MISSING


# -- how far a table is ---------------------------------------------------------------------


def test_states_are_told_apart(tmp_path: Path) -> None:
    planned = plan()
    rows = ["FitNet", "RKD", "CRD", "OFD", "ReviewKD", "SimKD", "CAT-KD"]
    done, partial, running, failed, diverged, stopped, cancelled = (
        runs_of(planned, row) for row in rows
    )
    write(tmp_path, done)
    write(tmp_path, partial[:2])
    write(tmp_path, running[:2])
    write(tmp_path, [running[2], failed[0], stopped[0], cancelled[0]], finished=False)
    write(tmp_path, diverged, diverged=True)
    lease = Lease.acquire(RunDir(tmp_path, running[2].key))
    write_json(RunDir(tmp_path, failed[0].key).failure, {"schema": 1, "reason": "no memory"})
    RunDir(tmp_path, cancelled[0].key).cancelled.touch()
    found = collected(tmp_path)
    lease.release()
    states = [cell(found, row).state for row in [*rows, "KD"]]
    assert states == [
        State.DONE,
        State.PARTIAL,
        State.RUNNING,
        State.FAILED,
        State.DIVERGED,
        State.PARTIAL,
        State.PARTIAL,
        State.MISSING,
    ]
    assert cell(found, "RKD").n == cell(found, "CRD").n == 2
    assert cell(found, "OFD").failed_seeds == (0,)
    assert cell(found, "ReviewKD").diverged_seeds == (0, 1, 2, 3, 4)
    assert cell(found, "SimKD").mean is None
    assert cell(found, "KD").planned == 5


def test_a_diverged_seed_is_shown_and_leaves_no_value(tmp_path: Path) -> None:
    first, *others = runs_of(plan(), "KD")
    write(tmp_path, [first], diverged=True)
    write(tmp_path, others)
    there = cell(collected(tmp_path), "KD")
    assert (there.state, there.n, there.diverged_seeds) == (State.DONE, 4, (0,))


def test_a_truncated_result_is_a_failed_seed(tmp_path: Path) -> None:
    first, *others = runs_of(plan(), "KD")
    write(tmp_path, [first, *others])
    path = RunDir(tmp_path, first.key).result
    path.write_text(path.read_text()[:200])
    found = collected(tmp_path)
    there = cell(found, "KD")
    assert (there.state, there.n, there.failed_seeds) == (State.FAILED, 4, (0,))
    assert [line.split(":")[0] for line in found.problems] == [first.key]


def test_what_a_live_submission_holds_is_queued(tmp_path: Path) -> None:
    planned = plan()
    kd, dkd = runs_of(planned, "KD"), runs_of(planned, "DKD")
    old = new_submission("cifar100", make_packs("cifar100", dkd, []), tmp_path, tmp_path)
    old.write("local")
    submission = new_submission("cifar100", make_packs("cifar100", kd, [], 1), tmp_path, tmp_path)
    submission.write("local")
    assert cell(collected(tmp_path), "KD").state is State.MISSING  # nothing of it is alive
    write(tmp_path, kd[:2], finished=False)
    lease = Lease.acquire(RunDir(tmp_path, kd[0].key))
    found = collected(tmp_path)
    assert cell(found, "KD").state is State.RUNNING
    assert cell(found, "KD").runs == (kd[0].key,)
    (group,) = found.groups["KD", COLUMN]
    assert [run.state for run in group.runs] == ["running", *["queued"] * 4]
    assert cell(found, "DKD").state is State.MISSING  # no run of that submission is alive
    lease.release()


def test_a_row_with_all_its_runs_in_the_queue_is_queued(tmp_path: Path) -> None:
    planned = plan()
    teacher, kd = planned.teachers[0], runs_of(planned, "KD")
    packs = make_packs("cifar100", [teacher, *kd], [teacher.key])
    new_submission("cifar100", packs, tmp_path, tmp_path).write("local")
    write(tmp_path, [teacher], finished=False)
    lease = Lease.acquire(RunDir(tmp_path, teacher.key))
    assert cell(collected(tmp_path), "KD").state is State.QUEUED
    lease.release()


# -- teachers, protocols, selections --------------------------------------------------------


def test_runs_that_read_different_files_of_one_teacher_are_marked(tmp_path: Path) -> None:
    runs = runs_of(plan(), "KD")
    write(tmp_path, runs)
    assert "different files" not in notes(collected(tmp_path), "KD")
    edit(RunDir(tmp_path, runs[2].key).result, teacher_digest="f" * 64)
    assert "its runs read different files of one teacher" in notes(collected(tmp_path), "KD")


def test_the_protocol_can_be_another_than_the_tables(tmp_path: Path) -> None:
    write(tmp_path, runs_of(plan(), "KD"))
    found = collected(tmp_path, protocol="best")
    assert cell(found, "KD").mean == pytest.approx(70.05)
    assert found.grid.protocol == "best"
    assert found.grid.protocol_note == "the table's own protocol is last"
    assert cell(found, "KD").samples[0].statistic == "best"


def test_a_table_of_errors_holds_errors(tmp_path: Path) -> None:
    column = "tv_resnet34-tv_resnet18"
    planned = plan("imagenet-projector", only=(f"column={column}", "row=KD"))
    write(tmp_path, runs_of(planned, "KD"), 70.0)
    found = collected(tmp_path, "imagenet-projector")
    assert cell(found, "KD", column, "top1").mean == pytest.approx(30.0)
    assert cell(found, "KD", column, "top5").mean == pytest.approx(9.0)


def test_a_selection_limits_rows_columns_and_seeds(tmp_path: Path) -> None:
    write(tmp_path, [*runs_of(plan(), "KD"), *runs_of(plan(), "Teacher")])
    only = ["uses=kd", f"column={COLUMN}"]
    which: dict[str, Any]
    for which in ({"only": [*only, "seed=1", "seed=3"]}, {"only": only, "seeds": "1,3"}):
        found = collected(tmp_path, **which)
        assert found.places == {("KD", COLUMN)}
        assert (cell(found, "KD").seeds, cell(found, "KD").planned) == ((1, 3), 2)
        assert cell(found, "Teacher").seeds == (0,)  # the one teacher of all seeds
    assert cell(collected(tmp_path, seeds="2-9"), "KD").planned == 8
    with pytest.raises(UserError, match="--only seed=7 matches nothing"):
        collected(tmp_path, only=["seed=7"])
    with pytest.raises(UserError, match="did you mean 'KD'"):
        collected(tmp_path, only=["row=KDD"])


# -- the whole ------------------------------------------------------------------------------


def as_text(grid: Grid) -> str:
    return json_renderer.render(judge(grid))


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    table = plan().table
    runs = write_runs(tmp_path / "one", table, 300)
    for run in reversed(runs):  # made in another order, so that the directory lists them so
        source, target = RunDir(tmp_path / "one", run.key), RunDir(tmp_path / "two", run.key)
        target.path.mkdir(parents=True)
        for name in ("cell", "result"):
            if getattr(source, name).exists():
                getattr(target, name).write_bytes(getattr(source, name).read_bytes())
    first = collected(tmp_path / "one")
    assert as_text(first.grid) == as_text(collected(tmp_path / "two").grid)
    assert as_text(first.grid) == as_text(collected(tmp_path / "one").grid)  # from the index
    assert sum(cell.n for cell in first.grid.cells.values()) > 200


@pytest.mark.slow
def test_runs_beyond_the_table_change_nothing_but_remarks(tmp_path: Path) -> None:
    table = plan("digits", only=()).table
    runs = write_runs(tmp_path / "own", table, 48)
    before = collected(tmp_path / "own", "digits").grid
    assert len({run.seed for run in runs}) == 3
    write_runs(tmp_path / "all", table, 400, seeds=3)
    after = collected(tmp_path / "all", "digits").grid
    assert set(after.cells) == set(before.cells)
    for key, there in before.cells.items():
        assert after.cells[key].samples == there.samples
        assert not any(mark.kind is MarkKind.OTHER for mark in after.cells[key].marks)


def test_a_table_without_runs_is_a_table(tmp_path: Path) -> None:
    found = collected(tmp_path / "nothing")
    assert {there.state for there in found.grid.cells.values()} == {State.MISSING}
    assert len(found.grid.cells) == 11 * 13
