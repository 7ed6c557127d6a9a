"""The wheel: what it holds, and that a ``bench`` installed from it works from any directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = ("benchmark", "tables", "slurm/profiles", "checkpoints/registry.yaml")
BUILT_FROM += ("perf/method_costs.json", "perf/operations.json")
BUILT_FROM += ("setup.cfg", "setup.py", "pyproject.toml")
BUILT_FROM += ("MANIFEST.in", "README.md", "LICENSE", "constraints.txt", "CHANGELOG.md")
SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def _run(*command: object, cwd: Path, **environment: str) -> str:
    words = [str(word) for word in command]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BENCH_", "PYTHONPATH"))}
    done = subprocess.run(
        words, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel offline, as ``python -m build`` does: a source archive, a wheel from that.

    All from a copy of the checkout, which holds no remains of earlier builds.
    """
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__")
    for name in BUILT_FROM:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=skipped)
        else:
            shutil.copy(ROOT / name, source / name)
    _run(sys.executable, "-c", SDIST, out, cwd=source)
    (archive,) = out.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q")
    _run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", out, archive, cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bench(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own; what it needs is this one's."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    _run(*pip, "install", "-q", "--no-deps", "--no-index", wheel, cwd=place)
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "bench"


@pytest.mark.slow
def test_it_holds_what_travels_with_the_code(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert "benchmark/py.typed" in held
    wanted = [*ROOT.glob("tables/*.yaml"), *ROOT.glob("slurm/profiles/*.yaml")]
    wanted += [ROOT / "checkpoints/registry.yaml"]
    wanted += [ROOT / "perf/method_costs.json", ROOT / "perf/operations.json"]
    assert {f"benchmark/shipped/{path.relative_to(ROOT)}" for path in wanted} <= held
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "benchmark").rglob("*.py")}
    assert {name for name in held if name.endswith(".py")} == code
    strangers = {name for name in held if not name.startswith(("benchmark/", "kd_benchmark-"))}
    assert not strangers


@pytest.mark.slow
def test_an_installed_bench_works_from_any_directory(bench: Path, tmp_path: Path) -> None:
    here = tmp_path / "somewhere"
    here.mkdir()
    (here / "yaml.py").write_text("raise SystemExit('a module of this folder was imported')")

    def run(*words: str) -> str:
        places = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_CACHE_HOME": str(tmp_path)}
        return _run(bench, *words, cwd=here, **places)

    listed = run("tables")
    assert all(path.stem in listed for path in ROOT.glob("tables/*.yaml"))
    assert run("teachers", "list").count("cifar100") > 5
    assert '"relative_step_cost"' in run("methods", "kd", "--json", "--table", "digits")
    run("data", "write", "digits")
    one = ("--table", "digits", "--only", "row=KD", "--only", "column=wrn_16_2-resnet8")
    one += ("--seeds", "0", "--set", "recipe.epochs=1")
    planned = json.loads(run("plan", *one, "--json"))
    assert [cell["row"] for cell in planned["cells"]] == ["KD"]
    run("submit", *one, "--cluster", "inline")
    run("submit", *one, "--set", "recipe.lr=0.01", "--cluster", "local", "--wait")
    collected = json.loads(run("collect", "--table", "digits", "--format", "json"))
    cell, *_ = (cell for cell in collected["cells"] if cell["row"] == "KD" and cell["n"])
    assert cell["mean"] > 0
    result, _ = (here / "checkpoints" / "runs").glob("*kd*/result.json")
    origin = json.loads(result.read_text())["provenance"]
    assert origin["commit"] is None
    assert origin["code"].startswith("sha256:")
    assert "kd-benchmark" in origin["versions"]
