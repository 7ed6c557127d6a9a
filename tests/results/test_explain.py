"""What bench collect --explain says of one cell: origins of values, sources, runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmark.results.report import explain_cell
from benchmark.run.directory import RunDir
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from tests.results.filled import (
    COLUMN,
    GRID_COLUMN,
    edit,
    fill_grid,
    grid_table,
    plan,
    runs_of,
    write,
)
from tests.results.test_report import bench


def test_a_real_cell_is_explained_run_by_run(trained: Path) -> None:
    table = str(trained / "tiny.yaml")
    text = explain_cell(table, "KD", "wrn_16_2-resnet8", runs_dir=trained / "runs")
    for result in map(json.loads, map(Path.read_text, trained.glob("runs/*-kd-*/result.json"))):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(result["key"])]
        assert f"last {result['metrics']['top1']['last']:.2f} %" in line
        assert f"seed {result['seed']}" in line
        assert f"commit {result['provenance']['commit'][:12]}" in line
        assert result["provenance"]["cpu"] in line
        assert result["teacher_digest"].removeprefix("sha256:")[:12] in line
    assert "option kd.temperature = 4.0 (the method's default)" in text
    assert f"recipe.epochs = 2 (set in the table; {load_table('digits').recipe} has" in text
    assert "recipe.schedule.milestones = [1] (set in the table" in text
    assert "published: 50, statistic unstated; printed; source: a guess" in text
    assert "another source prints 51.5 (+1.50): another guess" in text
    assert "the table's own" in text


def test_every_value_says_where_it_comes_from(filled: Path) -> None:
    column = "resnet32x4-shufflenetv2"
    text = explain_cell("cifar100", "ReviewKD", column, runs_dir=filled)
    for line in (
        "option reviewkd.weight = 8.0 (set for this column; source: ReviewKD repository,",
        "option reviewkd.first_epoch = 0 (set in this row; source: ReviewKD repository,",
        "option reviewkd.max_mid_channels = 512 (the method's default)",
        "recipe.lr = 0.02 (set for this row in this column; crd_240 has 0.05; source: ReviewKD",
        "recipe.batch_size = 128 (set in this row; crd_240 has 64;",
        "recipe.schedule.milestones = [151, 181, 211] (set in this row;",
    ):
        assert line in text
    text = explain_cell("cifar100", "ReviewKD", "vgg13-vgg8", runs_dir=filled)
    assert "assumed: in no script; mdistiller's default" in text
    assert "  assumed: reviewkd.weight (in no script; mdistiller's default)" in text
    text = explain_cell("cifar100", "KD", column, runs_dir=filled)
    assert "recipe.lr = 0.01 (set in this column; crd_240 has 0.05)" in text


@pytest.mark.parametrize("row", ["Teacher", "DHKD + ReviewKD"])
def test_every_field_of_the_recipe_is_listed_as_it_is_trained(row: str, tmp_path: Path) -> None:
    lines = explain_cell("cifar100", row, COLUMN, runs_dir=tmp_path).splitlines()
    told = {line.split(" = ")[0]: line.split(" = ")[1] for line in lines if " = " in line}
    run = runs_of(plan(), row)[0]
    for name, value in run.recipe.model_dump(mode="json").items():
        if name == "schedule":
            for part, inner in value.items():
                assert told[f"recipe.schedule.{part}"].startswith(f"{inner} (")
        elif name != "device":  # the table leaves it open
            assert told[f"recipe.{name}"].startswith(f"{value} (")
    for method in run.methods:
        for option, value in method.options.items():
            assert told[f"option {method.name}.{option}"].startswith(f"{value} (")


def test_an_explanation_honours_seeds_and_shows_what_is_asked_of_a_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, runs_of(plan(seeds="0-2"), "KD"), 70.3)  # published: 70.66
    whole = explain_cell("cifar100", "KD", COLUMN, runs_dir=tmp_path)
    assert "seeds: 0, 1, 2 (5 planned)" in whole
    part = explain_cell(
        "cifar100", "KD", COLUMN, parse_selection(["seed!=2", "row=KD"]), runs_dir=tmp_path
    )
    assert "seeds: 0, 1 (4 planned)" in part
    assert "-s2-" not in part
    (line,) = (line for line in part.splitlines() if line.strip().startswith("by last: "))
    assert "Holm's p = 1" in line
    never = "not even 100 further seeds surely settle it"
    assert re.search(rf"underpowered \((\+\d+ seeds?|{never})\)", line)
    assert "if spread x 1.25: underpowered" in part
    words = ["--explain", "KD", COLUMN, "--seeds", "0-1", "--runs", tmp_path]
    assert bench("collect", "-t", "cifar100", *words) == 0
    assert "seeds: 0, 1 (2 planned)" in capsys.readouterr().out


def test_what_other_sources_print_is_told(filled: Path) -> None:
    table = plan().table
    row, column, entry = next(
        (row, column, cell["top1"])
        for row, cells in table.published.items()
        for column, cell in cells.items()
        if cell["top1"].others
    )
    text = explain_cell("cifar100", row, column, runs_dir=filled)
    for other in entry.others:
        assert f"another source prints {other.value:g}" in text


def test_overrides_and_what_is_not_shown_are_explained(tmp_path: Path) -> None:
    own, short = plan(), plan(sets=("recipe.epochs=3", "method.kd.temperature=2"))
    write(tmp_path, [*short.teachers, *runs_of(short, "KD")[:2]])
    text = explain_cell("cifar100", "KD", COLUMN, runs_dir=tmp_path)
    assert "overrides: kd.temperature = 2.0; recipe.epochs = 3" in text
    assert "option kd.temperature = 4.0 (" in text
    assert "; the runs shown have 2.0" in text
    assert "recipe.epochs = 240 (recipe crd_240); the runs shown have 3" in text
    write(tmp_path, runs_of(own, "KD")[:1])
    write(tmp_path, runs_of(own, "KD")[1:2], finished=False)
    key = runs_of(own, "KD")[1].key
    reason = {"schema": 1, "reason": "no memory", "count": 1}
    RunDir(tmp_path, key).failure.write_text(json.dumps(reason))
    text = explain_cell("cifar100", "KD", COLUMN, runs_dir=tmp_path)
    assert "not shown: runs of" in text
    assert f"{key}: failed, 240 epochs done, last attempt: no memory" in text
    assert "overrides" not in text


def test_the_combinations_of_a_grid_are_explained(tmp_path: Path) -> None:
    table = grid_table(tmp_path, "test")
    fill_grid(tmp_path, table, [91.0, 92.0, 90.0], [80.0] * 3)
    text = explain_cell(table, "KD", GRID_COLUMN, runs_dir=tmp_path / "runs")
    assert "best of 3 combinations on the test set: temperature = 4" in text
    assert "the choice flatters by up to" in text
    assert "option kd.temperature = 4.0 (of the grid 2, 4, 8)" in text
    assert text.count("\nshown: runs of") == 1
    assert text.count("\nnot shown: runs of") == 2


def test_a_cell_without_runs_or_training_is_explained(tmp_path: Path) -> None:
    text = explain_cell("thesis-4", "Vanilla", "resnet34-resnet18", runs_dir=tmp_path)
    assert "option vanilla_kd.alpha = not chosen yet (of the grid 0.1, 0.3, 0.5" in text
    assert f"no runs of it in {tmp_path}" in text
    table = plan("deit", only=()).table
    row = next(row for row in table.rows if row.reference)
    text = explain_cell("deit", row.name, table.columns[0].name, runs_dir=tmp_path)
    assert "state: reference" in text
    assert "recipe" not in text


def test_an_odd_provenance_is_unknown_not_a_crash(tmp_path: Path) -> None:
    run = runs_of(plan(), "KD")[0]
    write(tmp_path, [run])
    edit(RunDir(tmp_path, run.key).result, provenance=["odd"], seconds="soon", restarts=None)
    assert "commit unknown, unknown hardware" in explain_cell(
        "cifar100", "KD", COLUMN, runs_dir=tmp_path
    )
