"""docs/adding-a-method.md, followed to the letter from an empty folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.conformance.listing import COSTS_FILE
from benchmark.run.directory import all_rundirs
from benchmark.run.reading import read
from tests.conformance.command import bench

TEXT = (Path(__file__).parents[2] / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(m[1], m[2], m[3]) for m in BLOCK.finditer(TEXT)]
FILES = {name: body for _, name, body in BLOCKS if name}


def test_the_methods_are_as_short_as_promised() -> None:
    assert len(FILES["logit_mse.py"].splitlines()) < 35
    assert len(FILES["cosine_hints.py"].splitlines()) < 65


def test_the_methods_pass_the_projects_own_lint(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    python = [name for name in FILES if name.endswith(".py")]
    assert len(python) >= 2
    for name in python:
        (tmp_path / name).write_text(FILES[name])
    for command in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", str(root / "ruff.toml"), tmp_path],
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_costs_are_where_it_says() -> None:
    assert "perf/method_costs.json" in TEXT
    assert "python -m perf.add_method_costs" in TEXT
    assert COSTS_FILE.is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_every_step_works(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(digits))
    monkeypatch.delenv("BENCH_RUNS", raising=False)
    said: dict[str, str] = {}
    for kind, name, body in BLOCKS:
        if name:
            Path(name).write_text(body)
        elif kind == "console":
            for line in body.splitlines():
                prompt, command, *arguments = shlex.split(line)
                assert (prompt, command) == ("$", "bench"), line
                assert bench(monkeypatch, *arguments) == 0, capsys.readouterr().err
                said[line] = capsys.readouterr().out
    shown = "\n".join(said.values())
    assert shown.count("17 checks: 17 ok") == 4
    assert "centred = true" in shown
    runs = [rundir.read_run() for rundir in all_rundirs(Path("checkpoints/runs"))]
    trained = {"+".join(m.name for m in run.methods) for run in runs}
    assert trained == {"", "logit_mse", "logit_mse+at", "cosine_hints", "cosine_hints+kd"}
    assert {read(r).state for r in all_rundirs(Path("checkpoints/runs"))} == {"done"}
    collected = next(text for line, text in said.items() if "collect" in line)
    assert "Logit MSE + AT" in collected


@pytest.mark.usefixtures("plugins")
def test_a_missing_ce_weight_stops_before_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cosine_hints.py").write_text(FILES["cosine_hints.py"])
    (tmp_path / "hints.yaml").write_text(FILES["hints.yaml"].replace(", ce_weight: 1.0", ""))
    monkeypatch.chdir(tmp_path)
    arguments = ("plan", "--table", "hints.yaml", "--plugin", "cosine_hints.py")
    assert bench(monkeypatch, *arguments) == 2
    assert "set ce_weight in the row" in capsys.readouterr().err
