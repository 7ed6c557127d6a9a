"""Interruptions of tasks that make no progress: requeueing them would go on for ever."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.submission.arrays import Arrays
from tests.devcluster.conftest import Cluster, displace, toy, until

pytestmark = pytest.mark.slurm

Make = Callable[..., Arrays]


def _state(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.state.json"
    return json.loads(path.read_text()) if path.exists() else {"starts": 0}


def _start(make: Make, folder: Path, **options: Any) -> str:
    """Submit a toy that never saves anything, wait until it runs, and return its task."""
    (job,) = make([toy("p", folder, steps=400, stuck=True)], **options).send()
    until(lambda: _state(folder, "p")["starts"], "the task to start")
    time.sleep(0.5)  # a few steps
    return f"{job}_0"


def test_preempted_before_any_progress_it_is_left_to_slurm(
    cluster: Cluster, request_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.command("scontrol", "update", "partitionname=low", "gracetime=4")
    try:
        task = _start(request_for, tmp_path, partition="low")
        node = cluster.node(task)
        # Another one is still importing, and has no handler for signals yet.
        monkeypatch.setenv("TOY_STARTS_FOR", "20")
        others = sorted({"n1", "n2", "n3", "n4"} - {node})
        request = request_for([toy("q", tmp_path)], partition="low", exclude=",".join(others))
        importing = f"{request.send()[0]}_0"
        until(lambda: cluster.node(importing) == node, "it to start")
        time.sleep(1)
        displace(cluster, node, cpus=2)
        until(lambda: _state(tmp_path, "p")["starts"] == 2, "Slurm to requeue it")
        assert " Restarts=1 " in cluster.command("scontrol", "show", "job", "-o", importing)
    finally:
        cluster.command("scontrol", "update", "partitionname=low", "gracetime=15")


def test_without_progress_a_time_limit_ends_it(
    cluster: Cluster, request_for: Make, tmp_path: Path
) -> None:
    task = _start(request_for, tmp_path, **{"signal-seconds": 50})
    # One minute of which the last 50 seconds are for saving. Slurm looks every 30 seconds.
    cluster.command("scontrol", "update", f"jobid={task}", "timelimit=1")
    until(lambda: not cluster.state(task), "the task to leave")
    assert _state(tmp_path, "p")["starts"] == 1
    assert not (tmp_path / "p.result.json").exists()
