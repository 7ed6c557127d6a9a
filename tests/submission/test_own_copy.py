"""What a task starts from: the code that was submitted, in a folder of its own, or nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.submission.own_copy import FEW, PLACE, digest_of, read_copy, sweep, words, write_copy
from benchmark.submission.snapshot import CodeCopy, take_snapshot

SHOW = "import benchmark, os; print(benchmark.value, benchmark.__file__, os.environ['PYTHONPATH'])"


@pytest.fixture
def code(tmp_path: Path) -> CodeCopy:
    root = tmp_path / "project"
    (root / "benchmark").mkdir(parents=True)
    (root / "benchmark" / "__init__.py").write_text("value = 'ours'\n")
    return take_snapshot(tmp_path / "store", root)


def start(code: CodeCopy, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words(code.path, code.digest), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=code.path,  # from where nothing is imported
        env={**os.environ, **more},
    )


def test_a_task_runs_a_copy_of_its_own(code: CodeCopy, tmp_path: Path) -> None:
    place = tmp_path / "node"
    place.mkdir()
    done = start(code, "-c", SHOW, TMPDIR=str(place), PYTHONPATH="/site")
    value, file, path = done.stdout.split()
    (own,) = place.iterdir()
    assert (value, file) == ("ours", str(own / "benchmark" / "__init__.py"))
    assert path == f"{own}:/site"
    assert own.stat().st_mode & 0o777 == 0o700
    assert not list(code.path.rglob("__pycache__"))


def test_it_goes_when_the_task_ends(code: CodeCopy, tmp_path: Path) -> None:
    place = write_copy(read_copy(str(code.path)))
    (Path(place) / "left").touch()
    leave = "from benchmark.submission.own_copy import leave_with_it; leave_with_it()"
    subprocess.run([sys.executable, "-c", leave], check=True, env={**os.environ, PLACE: place})
    assert not Path(place).exists()


def test_what_a_killed_task_left_goes_and_nothing_else(code: CodeCopy, tmp_path: Path) -> None:
    place = tmp_path / "node"
    place.mkdir()
    show = "import os, time; print(os.environ['PYTHONPATH'], flush=True); time.sleep(100)"
    command = [sys.executable, *words(code.path, code.digest), "-c", show]
    env = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": ""}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdout is not None
        held = Path(living.stdout.readline().strip())
        for name in ("bench-code-left", "bench-code-young", "others"):
            (place / name / "benchmark").mkdir(parents=True)
        (place / "bench-code-link").symlink_to(place / "others")
        for path in (held, place / "bench-code-left", place / "others"):
            os.utime(path, (1.0, 1.0))
        sweep(str(place))
        names = {held.name, "bench-code-young", "bench-code-link", "others"}
        assert set(os.listdir(place)) == names
        living.kill()
    sweep(str(place))
    assert set(os.listdir(place)) == names - {held.name}
    for number in range(FEW + 2):
        (place / f"bench-code-{number}").mkdir()
        os.utime(place / f"bench-code-{number}", (1.0, 1.0))
    sweep(str(place))  # a task does not wait for all of them
    assert len(os.listdir(place)) == len(names) - 1 + 2


@pytest.mark.parametrize("name", ["benchmark/__init__.py", "sitecustomize.py"])
def test_code_that_somebody_changed_is_not_run(code: CodeCopy, name: str, tmp_path: Path) -> None:
    (code.path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    done = start(code, "-c", SHOW)
    assert done.returncode == 1
    assert done.stderr == f"{code.path} is not the code that was submitted: somebody changed it\n"
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match="is not the code that it is named by: remove it"):
        take_snapshot(code.path.parent, tmp_path / "project")


def test_code_that_is_gone_is_a_line(code: CodeCopy) -> None:
    code.path.rename(code.path.with_name("moved"))
    done = subprocess.run(
        [sys.executable, *words(code.path, code.digest), "-c", SHOW],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"the copy of the code {code.path} is gone" in done.stderr
    assert done.stderr.count("\n") == 1


def test_links_are_not_followed(code: CodeCopy, tmp_path: Path) -> None:
    file = code.path / "benchmark" / "__init__.py"
    file.rename(tmp_path / "same")
    file.symlink_to(tmp_path / "same")
    with pytest.raises(OSError, match="symbolic links"):
        read_copy(str(code.path))


def test_a_full_disk_is_passed_by(
    code: CodeCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    place = Path(write_copy(read_copy(str(code.path))))
    assert digest_of(read_copy(str(place))) == code.digest
    (place / "benchmark" / "__init__.py").unlink()
    (place / "benchmark").rmdir()
    place.rmdir()


def test_a_place_that_python_would_take_for_two_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "with:colon"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    place = write_copy({"benchmark/__init__.py": b""})
    try:
        assert ":" not in place
        assert Path(place, "benchmark/__init__.py").is_file()
    finally:
        shutil.rmtree(place)
