from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.submission.snapshot import check_importable, take_snapshot


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "benchmark").mkdir(parents=True)
    (root / "benchmark" / "__init__.py").write_text("value = 1\n")
    (root / "data").mkdir()
    (root / "data" / "big.bin").write_bytes(b"x" * 10_000_000)
    environment = {**os.environ, "HOME": str(tmp_path)}
    for command in (
        ["init", "-q"],
        ["config", "user.email", "x@example.org"],
        ["config", "user.name", "x"],
        ["add", "benchmark"],
        ["commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", "-C", str(root), *command], check=True, env=environment)
    return root


def _value(code: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "import benchmark; print(benchmark.value)"],
        env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return done.stdout.strip()


def test_edits_after_the_snapshot_change_nothing(project: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    clean = take_snapshot(store, project)
    (project / "benchmark" / "__init__.py").write_text("value = 2\n")
    (project / "benchmark" / "new.py").write_text("")
    edited = take_snapshot(store, project)
    (project / "benchmark" / "__init__.py").write_text("value = 3\n")
    # The working tree is what this environment's editable install would run otherwise.
    assert (_value(clean.path), _value(edited.path)) == ("1", "2")
    assert clean.commit == edited.commit
    assert clean.dirty is None
    assert edited.dirty is not None
    assert (edited.path / "benchmark" / "new.py").exists()
    changes = (edited.path / "changes.diff").read_text()
    assert "+value = 2" in changes
    assert "new file benchmark/new.py" in changes
    assert not (clean.path / "data").exists()
    origin = json.loads((edited.path / "origin.json").read_text())
    assert origin["commit"] == edited.commit
    assert origin["installed"]["pytest"] == pytest.__version__


def test_equal_code_is_kept_once_and_privately(project: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert take_snapshot(store, project).path == take_snapshot(store, project).path
    assert len(list(store.iterdir())) == 1
    assert store.stat().st_mode & 0o777 == 0o700


def test_data_in_the_package_is_refused(project: Path, tmp_path: Path) -> None:
    (project / "benchmark" / "weights.pt").write_bytes(b"x" * 3_000_000)
    with pytest.raises(UserError, match=r"weights\.pt.*too large"):
        take_snapshot(tmp_path / "store", project)


def test_a_place_that_pythonpath_cannot_name_is_refused(project: Path, tmp_path: Path) -> None:
    check_importable(tmp_path / "runs 2024, mine" / ".code" / "me")
    store = tmp_path / "runs:2024" / ".code" / "me"
    with pytest.raises(UserError, match="tasks would run other code than the copy"):
        check_importable(store)
    for write in (False, True):
        with pytest.raises(UserError, match="holds a ':', at which PYTHONPATH would be cut"):
            take_snapshot(store, project, write=write)
    assert not store.parent.parent.exists()
