"""A sweep's combinations in every format, as a heat map, and what each choice gives."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmark.figures.drawing import FigureSource
from benchmark.figures.make import drawings
from benchmark.figures.style import house_style
from benchmark.results.render.sweep import FORMATS, render
from benchmark.results.report import make_report
from benchmark.results.sweep import Combination, sentences, sweep
from benchmark.run.directory import RunDir
from benchmark.table.selection import parse_selection
from tests.cli.command import bench
from tests.results.filled import COLUMN, edit, plan, runs_of, write
from tests.results.latex_syntax import check

ONLY = ("row=KD", f"column={COLUMN}")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two temperatures by two rates, two seeds each: the test set and held-out images differ."""
    root = tmp_path_factory.mktemp("swept")
    for place, (temperature, lr) in enumerate(itertools.product((2, 8), (0.01, 0.1))):
        sets = (f"method.kd.temperature={temperature}", f"student.recipe.lr={lr}")
        runs = runs_of(plan(sets=sets, seeds="0-1"), "KD")
        for run in runs:
            write(root, [run], 70.0 + place + 0.1 * run.seed)
            edit(RunDir(root, run.key).result, val_top1=60.0 - place)
    return root


@pytest.fixture(scope="module")
def found(swept: Path) -> list[Combination]:
    return sweep("cifar100", swept, parse_selection(ONLY))


def test_both_choices_and_what_they_set(found: list[Combination]) -> None:
    assert len(found) == 4
    settings = {(one.settings["kd.temperature"], one.settings["recipe.lr"]): one for one in found}
    assert settings.keys() == set(itertools.product((2.0, 8.0), (0.01, 0.1)))
    assert settings[8.0, 0.1].best_test
    assert settings[2.0, 0.01].best_held_out
    assert sum(one.best_test for one in found) == sum(one.best_held_out for one in found) == 1
    (said,) = sentences(found)
    assert "chosen on held-out images: " in said
    assert "(70.05)" in said
    assert "on the test set: " in said
    assert "(73.05), which flatters by up to 0.05 points" in said


def test_runs_without_held_out_images_leave_the_choice_among_the_others(
    swept: Path, tmp_path: Path
) -> None:
    shutil.copytree(swept, tmp_path / "runs")
    write(tmp_path / "runs", runs_of(plan(seeds="0-1"), "KD"), 80.0)
    mine = sweep("cifar100", tmp_path / "runs", parse_selection(ONLY))
    assert [one.mean for one in mine if one.best_test] == [80.0]
    assert [one.held_out for one in mine if one.best_held_out] == [60.0]
    (said,) = sentences(mine)
    assert "chosen on held-out images, of the 4 of 5 with any: " in said


def test_one_combination_with_held_out_images_is_no_choice(tmp_path: Path) -> None:
    write(tmp_path, runs_of(plan(seeds="0-1"), "KD"), 80.0)
    runs = runs_of(plan(sets=("method.kd.temperature=2",), seeds="0"), "KD")
    write(tmp_path, runs, 70.0)
    edit(RunDir(tmp_path, runs[0].key).result, val_top1=60.0)
    mine = sweep("cifar100", tmp_path, parse_selection(ONLY))
    assert not any(one.best_held_out for one in mine)
    (said,) = sentences(mine)
    assert "one combination alone has held-out images" in said


def test_every_format_has_the_same_values(found: list[Combination]) -> None:
    means = [f"{one.mean:.2f}" for one in found]
    for kind in FORMATS:
        text = render(found, kind)
        assert all(mean in text or mean.rstrip("0") in text for mean in means), kind
    lines = list(csv.DictReader(io.StringIO(render(found, "csv"))))
    assert [float(line["set.kd.temperature"]) for line in lines] == [
        one.settings["kd.temperature"] for one in found
    ]
    told = json.loads(render(found, "json"))
    assert told["combinations"][0]["settings"] == found[0].settings
    latex = render(found, "tex")
    check(latex)
    assert latex.count(r"\textbf{") == 1
    assert r"kd.temperature = 8.0" in latex


def test_only_what_differs_is_set_apart(swept: Path, tmp_path: Path) -> None:
    runs = runs_of(plan(sets=("method.kd.temperature=2,8", "recipe.epochs=3"), seeds="0"), "KD")
    write(tmp_path, runs, 50.0)
    settings = [one.settings for one in sweep("cifar100", tmp_path, parse_selection(ONLY))]
    assert sorted(map(str, settings)) == ["{'kd.temperature': 2.0}", "{'kd.temperature': 8.0}"]


@pytest.mark.slow
def test_files_and_a_heat_map(swept: Path, tmp_path: Path) -> None:
    words = ("-t", "cifar100", "--runs", swept, *(w for only in ONLY for w in ("--only", only)))
    said = bench("collect", *words, "--sweep", "--format", "md,tex,csv,json", "--out", tmp_path)
    assert said.code == 0, said.err
    assert {path.name for path in tmp_path.iterdir()} == {
        f"cifar100.sweep.{kind}" for kind in FORMATS
    }
    drawn = bench("figures", *words, "--kind", "sweep", "--out", tmp_path / "figures")
    assert drawn.code == 0, drawn.err
    (path,) = (tmp_path / "figures").glob("*.csv")
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["set.recipe.lr"] for line in lines} == {"0.01", "0.1"}
    assert path.name == f"cifar100-sweep-KD-{COLUMN}.csv"


def test_the_heat_map_holds_its_caption(tmp_path: Path) -> None:
    for temperature, lr, decay in ((2, 0.01, 0.00025), (8, 0.12, 0.00075)):
        sets = (f"method.kd.temperature={temperature}", f"student.recipe.lr={lr}")
        runs = runs_of(plan(sets=(*sets, f"student.recipe.weight_decay={decay}"), seeds="0"), "KD")
        write(tmp_path, runs, 70.0 + temperature)
    report = make_report("cifar100", parse_selection(ONLY), runs_dir=tmp_path)
    source = FigureSource(report, Path("/nonexistent"))
    with house_style():
        (drawing,) = drawings("sweep", source)
        figure = drawing.figure
        drawer = FigureCanvasAgg(figure)
        drawer.draw()
        (caption,) = (text for text in figure.texts if "on the test set" in text.get_text())
        box = caption.get_window_extent(drawer.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


def test_bad_formats_are_one_line(swept: Path) -> None:
    words = ("collect", "-t", "cifar100", "--runs", swept, "--sweep", "--format")
    wrong = bench(*words, "parquet")
    assert (wrong.code, wrong.out) == (2, "")
    assert "unknown format 'parquet'" in wrong.err
    several = bench(*words, "md,tex")
    assert (several.code, several.out) == (2, "")
    assert "--out" in several.err
