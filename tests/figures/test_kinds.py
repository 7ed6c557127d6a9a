"""What the kinds draw from records: bands, drops, the cheapest, parameters."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import benchmark
from benchmark.figures.against import compare_all
from benchmark.figures.drawing import FigureSource
from benchmark.figures.kinds.cost import CostPoint, frontier, parameters
from benchmark.figures.kinds.curves import draw as draw_curves
from benchmark.figures.kinds.curves import rate_drops
from benchmark.figures.style import house_style
from benchmark.results.grid import GridRow
from benchmark.results.report import make_report
from benchmark.run.directory import RunDir
from tests.results.filled import COLUMN


@pytest.fixture
def curves(source: FigureSource) -> pd.DataFrame:
    with house_style():
        (drawing,) = draw_curves(source)
    return pd.DataFrame(list(drawing.data))


def test_bands_reach_from_the_lowest_to_the_highest_seed(
    curves: pd.DataFrame, source: FigureSource
) -> None:
    runs = source.runs_of("KD", COLUMN)
    records = [RunDir(source.runs_dir, run.key).read_records() for run in runs]
    at = [r for of in records for r in of if r["epoch"] == 200]
    values = [r["test_top1"] for r in at]
    line = curves[(curves["row"] == "KD") & (curves["epoch"] == 200)].set_index("quantity")
    shown = line.loc["test_top1"]
    assert shown["seeds"] == 3
    assert shown["lowest"] == min(values)
    assert shown["highest"] == max(values)
    assert shown["mean"] == pytest.approx(sum(values) / 3)
    assert line.loc["loss.kd", "mean"] == pytest.approx(at[0]["losses"]["kd"])


def test_a_diverged_seed_is_left_out(curves: pd.DataFrame) -> None:
    seeds = curves[curves["quantity"] == "test_top1"].groupby("row")["seeds"].max()
    assert seeds.to_dict() == {"Student": 3, "KD": 3, "DKD": 3, "SimKD": 2}


def test_drops_of_the_rate_and_schedules_without_any() -> None:
    def frame(rates: list[float]) -> pd.DataFrame:
        return pd.DataFrame({"run": "a", "epoch": range(1, len(rates) + 1), "lr": rates})

    assert rate_drops(frame([0.05, 0.05, 0.005, 0.005, 0.0005])) == [3, 5]
    assert rate_drops(frame([0.1 * 0.98**n for n in range(30)])) == []
    assert rate_drops(frame([0.5**n for n in range(30)])) == []


@pytest.mark.slow
def test_gains_where_nothing_is_published(digits_like: FigureSource) -> None:
    found = compare_all(digits_like.grid)
    assert {key[0] for key in found} == {"KD"}
    (one,) = found.values()
    grid, place = digits_like.grid, ("wrn_16_2-resnet8", "top1")
    mine, base = grid.cells["KD", *place].mean, grid.cells["Student", *place].mean
    assert mine is not None
    assert base is not None
    assert one.delta == pytest.approx(mine - base)
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.delta < one.high
    assert one.verdict is None


@pytest.fixture
def digits_like(trained: Path) -> FigureSource:
    """The real runs as a table that nobody published."""
    text = (trained / "tiny.yaml").read_text().split("published:")[0]
    (trained / "unpublished.yaml").write_text(text.replace("name: tiny", "name: unpublished"))
    table = str(trained / "unpublished.yaml")
    return FigureSource(make_report(table, runs_dir=trained / "runs"), trained)


def test_only_what_no_other_beats_is_on_the_frontier() -> None:
    def point(seconds: float, value: float) -> CostPoint:
        return CostPoint(GridRow(f"{seconds}"), seconds, value, None, None, ())

    points = [point(1, 70), point(2, 69), point(3, 72), point(3, 71)]
    assert [(p.seconds, p.value) for p in frontier(points)] == [(1, 70), (3, 72)]
    errors = [(p.seconds, p.value) for p in frontier(points, accuracy=False)]
    assert errors == [(1, 70), (2, 69)]


@pytest.mark.slow
def test_parameters_are_counted_without_loading_them(trained: Path) -> None:
    source = FigureSource(
        make_report(str(trained / "tiny.yaml"), runs_dir=trained / "runs"), trained
    )
    run = source.runs_of("KD", "wrn_16_2-resnet8")[0]
    model = benchmark.load_student(run.key, runs=trained / "runs").model
    counted = parameters(RunDir(trained / "runs", run.key))
    assert counted == sum(parameter.numel() for parameter in model.parameters())
    assert parameters(RunDir(trained, "nothing")) is None
