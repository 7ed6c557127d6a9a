"""What a table will say if the paper is right, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.results.forecast import forecast
from benchmark.results.foresee import foresee
from benchmark.results.foreseen import forecast_lines
from benchmark.table.load import load_table
from tests.results.test_report import bench


def test_more_seeds_reproduce_more() -> None:
    table = load_table("cifar100")
    few, more, many = (forecast(table, n) for n in (1, 5, 20))
    assert few.cells == more.cells == 130
    assert few.reproduced < more.reproduced < many.reproduced
    assert more.of_one_run < more.reproduced
    assert 40 < more.reproduced < 100


def test_claims_say_how_many_seeds_decide_them() -> None:
    found = {c.text: c for c in forecast(load_table("cifar100"), 5).claims}
    assert len(found) == 7
    together = found["DHKD and ReviewKD complement each other."]
    assert together.unknown  # the right half of the poster is illegible
    assert together.holds > 0.9
    best = next(c for text, c in found.items() if text.startswith("DKD is the best"))
    assert best.seeds_needed is None or best.seeds_needed > 20  # 0.08 points over ReviewKD
    assert best.holds < 0.5
    assert sum(c.seeds_needed is None or c.seeds_needed > 50 for c in found.values()) >= 3


def test_imagenet_can_be_reproduced_at_its_planned_seeds() -> None:
    """Or the plan says of which cells it cannot, and what would do."""
    found = forecast(load_table("imagenet"), 3)
    assert found.reproduced > found.cells / 2
    assert not found.out_of_reach
    assert found.conditional > 5
    assert found.left_open
    text = "\n".join(forecast_lines(found))
    assert "would if their sources said which epoch" in text
    assert "hardly be more than conditional, whatever the seeds: `statistic` or `n` in" in text


@pytest.mark.parametrize("name", ["imagenet-projector", "thesis-2", "thesis-5", "thesis-8"])
def test_a_cell_that_hardly_reproduces_is_said_with_what_would_do(name: str) -> None:
    table = load_table(name)
    found = forecast(table, len(table.seeds))
    said = len(found.out_of_reach) + len(found.left_open)
    assert found.reproduced + said >= found.cells / 2
    if found.out_of_reach:
        assert "can hardly be reproduced at these seeds" in "\n".join(forecast_lines(found))


def test_more_columns_tell_the_epoch_and_stating_it_does() -> None:
    table = load_table("cifar100")
    assert not forecast(table, 5).left_open  # up to eleven columns a row
    one = table.model_copy(update={"columns": table.columns[:1], "claims": ()})
    found = forecast(one, 5)
    assert found.conditional > 1
    stated = {
        row: {
            column: {
                m: e.model_copy(update={"statistic": "last", "n": e.n or 3}) for m, e in x.items()
            }
            for column, x in cells.items()
        }
        for row, cells in one.published.items()
    }
    told = forecast(one.model_copy(update={"published": stated}), 5)
    assert told.conditional == pytest.approx(0)
    assert told.reproduced > found.reproduced


def test_a_table_of_unknown_values_cannot_be_judged() -> None:
    table = load_table("cifar100")
    unknown = {
        row: {
            column: {
                metric: one.model_copy(update={"value": None}) for metric, one in entry.items()
            }
            for column, entry in cells.items()
        }
        for row, cells in table.published.items()
    }
    found = forecast(table.model_copy(update={"published": unknown}), 5)
    assert found.cells == 0
    assert "none that runs could be judged by" in forecast_lines(found)[0]


def test_plan_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("plan", "-t", "cifar100") == 0
    text = capsys.readouterr().out
    assert "if the paper is right: " in text
    assert "claim: DKD is the best single method" in text
    assert bench("plan", "-t", "cifar100", "--json", "--seeds", "0-2") == 0
    told = json.loads(capsys.readouterr().out)["if_the_paper_is_right"]
    assert told["seeds"] == 3
    assert told["expected_reproduced"] > 0
    assert len(told["claims"]) == 7


def test_a_forecast_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table, calls = load_table("cifar100"), []
    monkeypatch.setattr(
        "benchmark.results.forecast.forecast",
        lambda table, seeds: calls.append(seeds) or forecast(table, seeds),
    )
    assert foresee(table, 5) == foresee(table, 5) == forecast(table, 5)
    assert foresee(table, 3) != foresee(table.model_copy(update={"margin": 2.0}), 3)
    assert calls == [5, 3, 3]


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1, "forecasts": [1]}', '{"schema": 9}'])
def test_a_damaged_memory_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "kd-benchmark" / "forecasts.json"
    kept.parent.mkdir()
    kept.write_text(content)
    table = load_table("digits")
    assert foresee(table, 3) == forecast(table, 3)
    assert len(json.loads(kept.read_text())["forecasts"]) == 1
