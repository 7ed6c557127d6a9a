"""The digits table through Slurm, by the command, equals the one trained in this process."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.run.directory import RunDir
from tests.devcluster.conftest import PATIENCE, PROJECT, Cluster, displace, until
from tests.helpers import SHORT, digits_plan, numbers, train_plan

pytestmark = pytest.mark.slurm


def _node_of_a_pack(cluster: Cluster) -> str:
    """Where a pack of students runs, empty where none does yet."""
    for line in cluster.command("squeue", "-h", "-t", "R", "-o", "%N %k").splitlines():
        if re.search(r"pack=digits-wrn_\S+-x\d", line):
            return line.split()[0]
    return ""


def _preempt_a_pack(cluster: Cluster) -> None:
    """Preempt a pack; another one where the first was quicker than we."""
    for _ in range(3):
        displace(cluster, until(lambda: _node_of_a_pack(cluster), "a pack", PATIENCE), cpus=2)
        for _ in range(30):
            if "1" in cluster.command("squeue", "-h", "-O", "RestartCnt").split():
                return
            time.sleep(0.1)


def test_packed_and_preempted_on_the_way(
    running: Cluster, digits: Path, tmp_path: Path, pace: Path
) -> None:
    runs, inline = tmp_path / "runs", tmp_path / "inline"
    profile = tmp_path / "low.yaml"
    profile.write_text(
        f'partition: low\ntime: "30"\nmem: 1G\nruns: {runs}\ndata: {digits}\n', encoding="utf-8"
    )
    words = ["submit", "--table", "digits", "--profile", str(profile), "--seeds", "0", "--wait"]
    words += [word for item in SHORT for word in ("--set", item)]
    program = "from benchmark.cli import main; main()"
    bench = subprocess.Popen([sys.executable, "-c", program, *words], cwd=PROJECT)
    try:
        _preempt_a_pack(running)
        plan = digits_plan(digits)
        train_plan(plan, digits, inline, size=5)
        assert bench.wait(PATIENCE) == 0
    finally:
        bench.kill()
    for run in plan.runs:
        assert numbers(runs, run) == numbers(inline, run)
    starts = [RunDir(runs, run.key).read_result()["provenance"] for run in plan.runs]
    assert "1" in {start["slurm_restart"] for start in starts}
