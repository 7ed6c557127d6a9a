"""What people type all day starts without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.planning.trial import check_trials
from benchmark.results.foresee import foresee
from benchmark.table.load import load_table
from tests.helpers import digits_plan

HEAVY = ("torch", "torchvision", "timm", "ffcv", "sklearn", "matplotlib", "pandas")
ARRAYS = ("numpy", "scipy")
MODULES = """
import importlib, pkgutil, sys
import benchmark
rooms = "base table run planning submission slurm monitor results site export operate api cli"
for room in rooms.split():
    package = importlib.import_module(f"benchmark.{room}")
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name != "benchmark.submission.task":  # what jobs run
            importlib.import_module(found.name)
import benchmark.data.datasets
from benchmark.methods.catalog import method_infos
from benchmark.models import model_infos
assert all(info.options_class for info in method_infos().values()) and model_infos()
"""
COMMAND = """
import sys
from benchmark.cli import main
sys.argv = ["bench", *sys.argv[1:]]
try:
    main()
except SystemExit as leaving:
    assert not leaving.code, leaving.code
"""
FACE = """
import sys
import benchmark
assert not [m for m in sys.modules if m.startswith("benchmark.")]
for name in benchmark.__all__:
    getattr(benchmark, name)
assert benchmark.plan("digits", seeds=[0]).runs and benchmark.load_method("kd").defaults
assert "pandas" not in sys.modules
"""
SAY = "\nprint(' '.join(m for m in HEAVY if m in sys.modules))"


def heavy_modules(code: str, folder: Path, *arguments: str, heavy: tuple[str, ...] = HEAVY) -> str:
    program = code + SAY.replace("HEAVY", repr(heavy))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "plan --table cifar100 --seeds 0-4",
        "plan --table digits --json",
        "check --table imagenet",
        "tables",
        "methods",
        "teachers list",
    ],
)
def test_commands(tmp_path: Path, arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan needs numpy and scipy to foresee a table's verdicts, once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, seeds in (("cifar100", 5), ("digits", len(load_table("digits").seeds))):
        foresee(load_table(name), seeds)
    assert heavy_modules(COMMAND, tmp_path, *arguments.split(), heavy=HEAVY + ARRAYS) == ""


def test_submit(tmp_path: Path, digits: Path) -> None:
    """That cells which were not tried yet need no torch here either is for tests of trials."""
    check_trials(digits_plan(digits, ["row=KD"], sets=()).runs, digits)
    submit = "submit --table digits --only row=KD --seeds 0 --cluster local --dry-run --data"
    assert heavy_modules(COMMAND, tmp_path, *submit.split(), str(digits)) == ""


def test_modules(tmp_path: Path) -> None:
    assert heavy_modules(MODULES, tmp_path) == ""


def test_the_public_face_is_imported_when_it_is_used(tmp_path: Path) -> None:
    assert heavy_modules(FACE, tmp_path) == ""
