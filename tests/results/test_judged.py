"""A table from its name to verdicts: claims, networks of rows, a worked check."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.results.grid import Verdict
from benchmark.results.judge import judge
from benchmark.results.judged import judged_grid
from benchmark.results.render import latex, markdown
from benchmark.results.terminal import show
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import STATISTICS
from benchmark.table.load import PACKAGED
from benchmark.table.selection import parse_selection
from perf.synthetic_runs import write_run, write_runs
from tests.results.filled import COLUMN, collected, edit, plan, runs_of, write


@pytest.mark.parametrize(
    "only",
    [
        ["row=KD", "row=DKD"],
        [f"column={COLUMN}"],
        pytest.param(["uses=dkd", "column!=vgg13-vgg8"], marks=pytest.mark.slow),
        pytest.param(["row!=Teacher", f"column={COLUMN}"], marks=pytest.mark.slow),
    ],
)
def test_what_is_shown_does_not_change_what_is_said(only: list[str], tmp_path: Path) -> None:
    write_runs(tmp_path, plan().table, 500)
    whole = judged_grid("cifar100", tmp_path)
    part = judged_grid("cifar100", tmp_path, parse_selection(only))
    assert 0 < len(part.cells) < len(whole.cells)
    assert part.cells == {key: whole.cells[key] for key in part.cells}
    assert {row.name for row in part.rows} == {key[0] for key in part.cells}
    assert {column.name for column in part.columns} == {key[1] for key in part.cells}
    said = {result.claim.text: result for result in whole.claim_results}
    assert all(result == said[result.claim.text] for result in part.claim_results)
    rows = {row.name for row in part.rows}
    assert len(part.claim_results) == sum(
        all({e.row, *e.than} <= rows for e in claim.expect) for claim in whole.claims
    )
    for ranking in part.ranks:
        (other,) = whole.ranks
        assert ranking.columns == other.columns
        assert ranking.average == tuple(item for item in other.average if item[0] in rows)


def test_a_claim_over_several_tables_reads_their_runs(tmp_path: Path) -> None:
    for number, value in ((4, 79.0), (5, 92.0)):
        planned = plan(f"thesis-{number}", only=(), seeds="0-1")
        runs = runs_of(planned, "Relative KD v2")
        write(tmp_path, [*runs, *planned.teachers], value + 3)
        write(tmp_path, runs_of(planned, "Vanilla"), value)
    (found,) = (
        result
        for result in judged_grid("thesis-2", tmp_path).claim_results
        if "almost every pair" in result.claim.text
    )
    assert found.verdict == "needs more seeds"
    assert "established in 2 of 7 columns (6 asked for), refuted in 0" in found.detail
    assert "nothing to compare yet in thesis-2, thesis-3, thesis-6" in found.detail


def test_a_reference_without_a_number_is_a_dash(tmp_path: Path) -> None:
    grid = judged_grid("cifar100-mdistiller", tmp_path)
    table = plan("cifar100-mdistiller", only=("row=KD",)).table
    references = [row.name for row in table.rows if row.reference]
    assert len(references) > 5
    dashes = 0
    for row, column in itertools.product(references, (c.name for c in table.columns)):
        there = grid.cell(row, column, "top1")
        assert (there is None) == (table.published_value(row, column, "top1") is None)
        dashes += there is None
    assert dashes > 5
    assert "missing" not in "".join(
        line for line in markdown.render(grid).splitlines() if f"| {references[0]} |" in line
    )


def test_a_rows_own_student_is_shown_and_judged_as_such(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    text = (PACKAGED / "digits.yaml").read_text().replace("name: digits", "name: mine")
    text += "  - {name: Small KD, methods: [kd], student: mobilenetv2}\n"
    (tmp_path / "mine.yaml").write_text(text)
    grid = judged_grid(str(tmp_path / "mine.yaml"), tmp_path / "runs")
    (row,) = (row for row in grid.rows if row.name == "Small KD")
    assert (row.student, row.info) == ("mobilenetv2", (("student", "mobilenetv2"),))
    assert [said.split(",")[0] for said in grid.noise] == [
        "0.22 points (CIFAR students in general",
        "0.37 points (MobileNetV2 students",
    ]
    deit = judged_grid("deit", tmp_path / "runs")
    (small,) = (row for row in deit.rows if row.name == "Our Method (small)")
    assert dict(small.info)["student"] == "DeiT-S with a convolutional stem"
    assert "DeiT-S" in markdown.render(deit).split("Our Method (small)")[1].split("\n")[0]
    for text in (latex.render(deit, ("side_by_side",)), show(deit, width=100)):
        assert "Our Method (small) (student DeiT-S with a convolutional stem)" in text


@pytest.mark.parametrize(("table", "honest"), [("cifar100", False), ("imagenet", True)])
def test_noise_known_from_cifar_says_so_elsewhere(table: str, honest: bool, tmp_path: Path) -> None:
    grid = judged_grid(table, tmp_path)
    assert grid.noise
    for said in grid.noise:
        assert ("ImageNet" in said) == honest


def test_the_known_miss_of_dkd_is_found_among_reproduced_cells(tmp_path: Path) -> None:
    """A public report: DKD from wrn_40_2 to wrn_16_2 has 75.505 as the mean of four runs.

    Every other published cell comes out exactly, so that Holm's correction is at its strictest.
    """
    planned = plan(only=(), seeds="0-3")
    table = planned.table
    miss = ("DKD", "wrn_40_2-wrn_16_2")
    for slot in planned.slots:
        entry = table.published_value(slot.row.name, slot.column.name, "top1")
        if entry is None or entry.value is None:
            continue
        place = (slot.row.name, slot.column.name)
        for run in slot.variants[0].runs:
            if RunDir(tmp_path, run.key).path.exists():
                continue  # one teacher of several columns
            value = 75.505 if place == miss else entry.value
            value += 0.0 if slot.row.of == "teacher" else (-0.25, -0.1, 0.1, 0.25)[run.seed]
            result = write_run(tmp_path, run, value, spread=0.0)
            path = RunDir(tmp_path, run.key).result
            exact = dict.fromkeys(STATISTICS, value)
            edit(path, metrics={m: {**result["metrics"][m], **exact} for m in ("top1", "top5")})
    found = collected(tmp_path).grid
    public = {key: replace(cell, own_teacher=False) for key, cell in found.cells.items()}
    grid = judge(replace(found, cells=public))
    assert "counts as 3 runs: the fewest" in markdown.render(grid)
    compared = {key: cell for key, cell in grid.cells.items() if cell.comparisons}
    assert len(compared) == 130
    assert compared.pop((*miss, "top1")).verdict is Verdict.EXPECTED_MISS
    assert {cell.verdict for cell in compared.values()} <= {
        Verdict.REPRODUCED,
        Verdict.CONDITIONAL,
        Verdict.UNDERPOWERED,
    }
    # With teachers trained here the same difference may be the teacher's.
    other = judge(found).cells[(*miss, "top1")]
    assert other.verdict is Verdict.UNDERPOWERED


def test_runs_that_hit_dkd_by_their_best_epoch_reproduce_it(tmp_path: Path) -> None:
    """Its authors say that they report the best epoch, 0.3 points above the last one."""
    planned = plan("cifar100", only=("row=DKD",))
    columns = []
    for slot in planned.slots:
        if slot.row.name != "DKD":
            continue
        known = planned.table.published_value("DKD", slot.column.name, "top1")
        assert known is not None
        assert known.value is not None
        assert (known.statistic, known.n) == ("best", 5)
        columns.append(slot.column.name)
        # A teacher of ours would add the spread of teachers to what five seeds can tell.
        teacher = {"model": slot.column.teacher, "source": "registry", "key": "0" * 64}
        runs = [run for variant in slot.variants for run in variant.runs]
        for planned_run, off in zip(runs, (-0.2, -0.1, 0.0, 0.1, 0.2), strict=True):
            run = Run.model_validate(planned_run.to_json() | {"teacher": teacher})
            result = write_run(tmp_path, run, known.value - 0.31 + off, spread=0.0)
            metrics = result["metrics"]
            metrics["top1"]["best"] = round(known.value + off, 2)
            edit(RunDir(tmp_path, run.key).result, metrics=metrics)
    judged = judged_grid("cifar100", tmp_path)
    assert len(columns) == 11
    verdicts = {column: judged.cells["DKD", column, "top1"].verdict for column in columns}
    # One is known not to reproduce: the word for a hit there is its own.
    assert verdicts.pop("wrn_40_2-wrn_16_2") is Verdict.UNEXPECTED_HIT
    assert set(verdicts.values()) == {Verdict.REPRODUCED}, verdicts
