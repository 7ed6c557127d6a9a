"""bench plan --stale: which runs no longer count, and which part of their identity changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.results.stale import stale_runs
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from tests.results.filled import plan, refreshed, runs_of, write
from tests.results.test_report import bench

TABLE = """
schema: 1
name: mine
source: {paper: Nobody}
dataset: digits
recipe: crd_240
teacher: {from: train, seed: fixed}
seeds: [0, 1]
columns: [{teacher: wrn_16_2, student: resnet8}]
rows:
  - {name: Teacher, of: teacher}
  - {name: Student, of: student}
  - {name: KD, methods: [kd]}
"""
PLACE = "wrn_16_2-resnet8"


def changes(tmp_path: Path, text: str) -> dict[tuple[str, str], dict[str, object]]:
    """Changes by (row, run) after the table became ``text``."""
    (tmp_path / "mine.yaml").write_text(text)
    found = stale_runs(load_table(str(tmp_path / "mine.yaml")), refreshed(tmp_path / "runs"))
    assert all(run.column == PLACE for run in found)
    return {(run.row, run.key): run.changes for run in found}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, list[Run]]:
    """Runs of the table before it was edited, by row."""
    path = tmp_path / "before.yaml"
    path.write_text(TABLE)
    planned = plan(str(path), only=(), device="cpu")
    write(tmp_path / "runs", planned.runs)
    return {row: runs_of(planned, row) for row in ("Teacher", "Student", "KD")}


def test_nothing_is_stale_without_an_edit(runs: dict[str, list[Run]], tmp_path: Path) -> None:
    assert changes(tmp_path, TABLE) == {}
    # Neither other seeds nor a row that moved nor a new one make a run stale.
    edited = TABLE.replace("[0, 1]", "[1, 2]").replace("name: KD,", "name: Distilled,")
    assert changes(tmp_path, edited + "  - {name: DKD, methods: [dkd]}\n") == {}


def test_an_option_makes_its_row_stale(runs: dict[str, list[Run]], tmp_path: Path) -> None:
    found = changes(tmp_path, TABLE.replace("[kd]", "[{kd: {temperature: 2.0}}]"))
    assert found == {("KD", run.key): {"kd.options.temperature": (4.0, 2.0)} for run in runs["KD"]}


def test_a_recipe_makes_runs_and_their_teachers_stale(
    runs: dict[str, list[Run]], tmp_path: Path
) -> None:
    found = changes(tmp_path, TABLE + "recipe_overrides: {epochs: 60}\n")
    own, teachers = {"recipe.epochs": (240, 60)}, {"teacher.recipe.epochs": (240, 60)}
    assert found == {
        **{(row, run.key): own for row in ("Teacher", "Student") for run in runs[row]},
        **{("KD", run.key): {**own, **teachers} for run in runs["KD"]},
    }


def test_another_teacher_makes_its_students_stale(
    runs: dict[str, list[Run]], tmp_path: Path
) -> None:
    text = TABLE.replace("seed: fixed}", "seed: fixed, recipe: {lr: 0.1}}")
    found = changes(tmp_path, text)
    assert {row for row, _ in found} == {"Teacher", "KD"}
    assert {str(c) for (row, _), c in found.items() if row == "KD"} == {
        "{'teacher.recipe.lr': (0.05, 0.1)}"
    }


@pytest.mark.parametrize("part", ["engine", "model:resnet8", "kd"])
def test_a_raised_version_is_named(part: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TABLE)
    run = runs_of(plan(str(tmp_path / "mine.yaml"), only=(), device="cpu"), "KD")[0]
    data = run.to_json()
    versions = data["methods"][0] if part == "kd" else data["versions"]
    name = "version" if part == "kd" else part
    current, versions[name] = versions[name], 0
    old = Run.model_validate(data)
    write(tmp_path / "runs", [old])
    ((key, found),) = changes(tmp_path, TABLE).items()
    assert key == ("KD", old.key)
    name = "kd.version" if part == "kd" else f"versions.{part}"
    assert found == {name: (0, current)}


def test_the_command_lists_runs_and_reasons_and_deletes_nothing(
    runs: dict[str, list[Run]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text(TABLE.replace("[kd]", "[{kd: {temperature: 2.0}}]"))
    before = sorted(path.name for path in (tmp_path / "runs").iterdir())
    words = ["plan", "--table", str(table), "--stale", "--runs", str(tmp_path / "runs")]
    assert bench(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 runs with overrides:"
    assert lines[1] == (
        f"  {runs['KD'][0].key}  (KD, {PLACE}): kd.options.temperature was 4.0, is 2.0"
    )
    assert lines[-1].startswith("mine: 2 runs do not count in")
    assert bench(*words, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["table"], len(data["stale"])) == (1, "mine", 2)
    assert all(one["override"] for one in data["stale"])
    assert data["stale"][0]["changes"] == {"kd.options.temperature": {"run": 4.0, "table": 2.0}}
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == before
