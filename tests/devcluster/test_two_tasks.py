"""One run on two tasks of a real Slurm, from submission to LaTeX, sent back once on the way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.run.directory import RunDir
from tests.cli.command import bench
from tests.devcluster.conftest import Cluster, until
from tests.helpers import digits_plan, numbers, train

pytestmark = pytest.mark.slurm

SETS = (
    *("recipe.replicas=2", "recipe.epochs=30", "recipe.eval_every=30"),
    "recipe.schedule.milestones=[20]",
)
ONLY = ("row=Student", "student=resnet8")


def test_replicas_on_two_tasks(
    cluster: Cluster, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers are those of one process, though srun starts two and both are killed once."""
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    runs, alone = tmp_path / "runs", tmp_path / "alone"
    profile = tmp_path / "two.yaml"
    profile.write_text(
        'partition: main\ntime: "30"\nmem: 1500M\nntasks-per-node: 2\n', encoding="utf-8"
    )
    words = [word for item in ONLY for word in ("--only", item)]
    words += [word for item in SETS for word in ("--set", item)]
    words += ["--runs", str(runs), "--data", str(digits)]
    sent = bench("submit", "--table", "digits", *words, "--seeds", "0", "--profile", profile)
    assert sent.code == 0, sent.err
    (run,) = digits_plan(digits, ONLY, sets=SETS).runs
    rundir = RunDir(runs, run.key)
    until(rundir.checkpoint.exists, "a checkpoint")
    (job,) = cluster.command("squeue", "-h", "-t", "R", "-o", "%A").split()
    assert re.search(r"NumTasks=2\b", cluster.command("scontrol", "show", "job", job))
    cluster.command("scontrol", "requeue", job)
    until(rundir.result.exists, "the run to end")
    result = rundir.read_result()
    assert result["provenance"]["slurm_restart"] == "1"
    assert set(train([run], digits, alone).endings.values()) == {"done"}
    assert numbers(runs, run) == numbers(alone, run)
    shown = bench(
        *("collect", "--table", "digits", "--runs", runs, *words[:4]),
        *("--format", "tex", "--out", tmp_path / "shown"),
    )
    assert shown.code == 0, shown.err
    (file,) = (tmp_path / "shown").glob("*.tex")
    assert "override" in file.read_text()
