"""Which executors there are, and one of a user's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.submission import inline
from benchmark.submission.executors import CLUSTERS, executor_for
from tests.cli.command import bench

OWN = """
from benchmark.base.log import say
from benchmark.submission.inline import InlineExecutor
from benchmark.submission.submission import Prepared


class Mine(InlineExecutor):
    def prepare(self, submission, queue):
        def send(wait):
            say(f"took {len(submission.runs)}")
            return 0

        return Prepared(("mine",), send)


def executor(profile):
    return Mine("cpu", "mine.py")
"""


@pytest.mark.parametrize("name", CLUSTERS)
def test_each_is_known_by_its_name(name: str) -> None:
    assert executor_for(name, None).name == name


def test_a_file_of_ones_own_is_another(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    only = ("--only", "row=Student", "--only", "student=resnet8", "--seeds", "0")
    where = ("--cluster", path, "--data", digits, "--runs", tmp_path / "runs")
    ended = bench("submit", "--table", "digits", *only, *where)
    assert (ended.code, ended.err.splitlines()[1:]) == (0, ["mine", "took 1"])


def test_a_copy_of_one_of_ours_is_one_of_ones_own(tmp_path: Path) -> None:
    assert inline.__file__ is not None
    path = Path(shutil.copy(inline.__file__, tmp_path / "own_copy.py"))
    assert executor_for(str(path), None).name == "inline"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no such file"),
        ("x = 1", r"defines no function executor\(profile\)"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words):
        executor_for(str(path), None)


def test_a_misspelt_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown cluster 'slrm'.*did you mean 'slurm'"):
        executor_for("slrm", None)


def test_a_dry_run_needs_no_slurm(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    words = (
        "submit",
        "-t",
        "digits",
        "--cluster",
        "slurm",
        "--only",
        "row=Student",
        "--seeds",
        "0",
    )
    where = ("--data", digits, "--runs", tmp_path / "runs")
    shown = bench(*words, *where, "--dry-run")
    assert shown.code == 0
    assert "#SBATCH --job-name=bench-digits" in shown.out
    assert "held against no cluster" in shown.err
    assert not (tmp_path / "runs").exists()
    refused = bench(*words, *where)
    assert refused.code == 2
    assert "--cluster local trains on this machine" in refused.err
