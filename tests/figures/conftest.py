"""Real runs, and made-up ones of a published column, to draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.figures.drawing import FigureSource
from benchmark.results.report import make_report
from perf.synthetic_runs import write_run
from tests.results.conftest import cache as cache
from tests.results.conftest import trained as trained
from tests.results.filled import plan, runs_of

ROWS = ("Student", "KD", "DKD", "SimKD")


@pytest.fixture(scope="module")
def column(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of four rows of a published column with whole curves; a seed of SimKD diverged."""
    root = tmp_path_factory.mktemp("column")
    planned = plan(seeds="0-2")
    for row in ROWS:
        for run in runs_of(planned, row):
            lost = row == "SimKD" and run.seed == 1
            write_run(root, run, 70.0, diverged=lost, curve=True)
    return root


@pytest.fixture
def source(column: Path) -> FigureSource:
    """The judged table behind those runs."""
    return FigureSource(make_report("cifar100", runs_dir=column), Path("/nonexistent"))
