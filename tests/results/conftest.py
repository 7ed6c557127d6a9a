"""Runs to collect, real and made up, and a cache folder of a test's own for the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from perf.synthetic_runs import write_runs
from tests.helpers import digits_plan, train_plan
from tests.results.filled import plan, runs_of, write

TINY = f"""
schema: 1
name: tiny
title: Two epochs on digits
source: {{paper: Nobody}}
dataset: digits
recipe: {load_table("digits").recipe}
recipe_overrides: {{epochs: 2, eval_every: 1, schedule: {{milestones: [1]}}}}
teacher: {{from: train, seed: same}}
seeds: [0, 1]
columns: [{{teacher: wrn_16_2, student: resnet8}}]
rows:
  - {{name: Teacher, of: teacher}}
  - {{name: Student, of: student}}
  - {{name: KD, methods: [kd]}}
published:
  KD:
    wrn_16_2-resnet8:
      {{value: 50.0, source: a guess, others: [{{source: another guess, value: 51.5}}]}}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for one test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real runs of the table in `TINY`: teacher, student and KD on two seeds each."""
    root = tmp_path_factory.mktemp("trained")
    table = root / "tiny.yaml"
    table.write_text(TINY)
    planned = digits_plan(digits, seeds="0-1", sets=(), table=str(table))
    train_plan(planned, digits, root / "runs")
    return root


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one column of the CIFAR-100 table, some of them diverged or unfinished."""
    root = tmp_path_factory.mktemp("filled")
    write_runs(root, plan().table, 200)
    return root


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three finished runs in tmp_path / "runs"."""
    found = runs_of(plan(), "KD")[:3]
    write(tmp_path / "runs", found)
    return found


@pytest.fixture
def first(runs: list[Run], tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs", runs[0].key)
