"""A bundle of somebody else's: its files are read, and nothing of it is run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.methods import catalog
from benchmark.planning.matrix import Context, make_plan
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from tests.cli.command import bench
from tests.results.conftest import cache as cache
from tests.results.filled import write

PLUGIN = Path(__file__).parents[1] / "train" / "extended" / "tied.py"
TABLE = """
schema: 1
name: own
source: {paper: Nobody}
dataset: digits
recipe: digits_60
teacher: {from: train, seed: same}
seeds: [0]
plugins: [tied.py]
columns: [{teacher: wrn_16_2, student: resnet8}]
rows:
  - {name: Student, of: student}
  - {name: Own, methods: [tied]}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    shutil.copy(PLUGIN, tmp_path / "tied.py")
    (tmp_path / "own.yaml").write_text(TABLE)
    where = Context(tmp_path / "no-data", "cpu")
    plan = make_plan(load_table(str(tmp_path / "own.yaml")), Selection(), where)
    write(tmp_path / "runs", plan.runs, curve=True)
    return tmp_path / "own.yaml"


@pytest.mark.slow
def test_plug_ins_come_along_and_are_not_run(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = bench("bundle", "--table", table, "--runs", tmp_path / "runs", "--out", out)
    assert ended.code == 0, ended.err
    assert (out / "table" / "tied.py").read_bytes() == PLUGIN.read_bytes()
    for registered in (catalog._plugins, catalog._files):
        registered.clear()  # as a process of its own begins
    (out / "table" / "tied.py").write_text(f"open({str(tmp_path / 'witness')!r}, 'w').close()")
    ended = bench("audit", out, "--data", tmp_path / "no-data")
    assert ended.code == 1
    assert "MISMATCH     files: table/tied.py was changed" in ended.out
    assert "not checked  table: own names plug-ins, which are not run" in ended.out
    assert "tied is not known here; --plugin FILE gives it" in ended.out
    assert not (tmp_path / "witness").exists()


def test_a_plug_in_that_was_given_comes_along_and_is_asked_for(table: Path, tmp_path: Path) -> None:
    table.write_text(
        TABLE.replace("plugins: [tied.py]\n", "").replace("name: Own", "name: Own | 1")
    )
    out, given = tmp_path / "out", ("--plugin", tmp_path / "tied.py", "--only", "row=Own | 1")
    ended = bench("bundle", "--table", table, "--runs", tmp_path / "runs", "--out", out, *given)
    assert ended.code == 0, ended.err
    assert (out / "table" / "tied.py").read_bytes() == PLUGIN.read_bytes()
    commands = (out / "README.md").read_text()
    assert "bench audit . --plugin table/tied.py\n" in commands
    assert "--only 'row=Own | 1' --seeds 0 --plugin table/tied.py\n" in commands
    for registered in (catalog._plugins, catalog._files):
        registered.clear()  # as a process of its own begins
    words = ("audit", out, "--data", tmp_path / "no-data", "--replay", "none")
    ended = bench(*words)
    assert "not checked  table: own needs tied.py; --plugin FILE gives it" in ended.out
    assert "MISMATCH     table" not in ended.out
    ended = bench(*words, "--plugin", out / "table" / "tied.py")
    assert "ok           table: own: 1 cell as its runs give" in ended.out
    assert "ok           forms" in ended.out


def test_a_plug_in_that_lies_elsewhere_is_named(table: Path, tmp_path: Path) -> None:
    table.write_text(TABLE.replace("tied.py", str(tmp_path / "tied.py")))
    ended = bench("bundle", "--table", table, "--runs", tmp_path / "runs", "--out", tmp_path / "o")
    assert ended.code == 2
    assert "lay a plug-in beside the table" in ended.err
