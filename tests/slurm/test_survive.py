"""What Slurm does to tasks, done for real: work comes back, cancelled work stays away."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.cluster import queue
from benchmark.cluster.submit import Request, Sent, submit
from tests.slurm.conftest import Cluster, toy, until
from tests.slurm.toy import chain

pytestmark = pytest.mark.slurm

STEPS = 400  # 40 s undisturbed, quick after a disturbance
Make = Callable[..., Request]


def _state(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.state.json"
    return json.loads(path.read_text()) if path.exists() else {"starts": 0}


def _result(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / f"{name}.result.json"
    return json.loads(path.read_text()) if path.exists() else None


def _start(make: Make, folder: Path, *names: str, **options: Any) -> Sent:
    """Submit toys and wait until they run."""
    more = options.pop("toy", {})
    packs = [toy(name, folder, **{"steps": STEPS, **more}) for name in names]
    sent = submit(make(packs, **options))
    until(lambda: all(_state(folder, name)["starts"] for name in names), "tasks to start")
    time.sleep(0.5)  # a few steps
    return sent


def _node(cluster: Cluster, task: str) -> str:
    return cluster.command("squeue", "-h", "-o", "%N", "-j", task)


def _displace(cluster: Cluster, task: str) -> None:
    """Fill the task's node from the higher partition."""
    node = _node(cluster, task)
    words = ["sbatch", "-p", "main", "-w", node, "-c2", "-t1", "-o", "/dev/null"]
    cluster.command(*words, "--wrap", "sleep 2")


def _finish(folder: Path, name: str, starts: int) -> None:
    """Wait for a result and compare it with that of an undisturbed run."""
    result = until(lambda: _result(folder, name), f"{name} to finish")
    assert result["value"] == chain(STEPS)
    assert result["starts"] == starts


def _preempt(cluster: Cluster, task: str) -> None:
    _displace(cluster, task)


def _reach_the_time_limit(cluster: Cluster, task: str) -> None:
    # One minute of which the last 50 seconds are for saving. Slurm looks every 30 seconds.
    cluster.command("scontrol", "update", f"jobid={task}", "timelimit=1")


def _requeue(cluster: Cluster, task: str) -> None:
    cluster.command("scontrol", "requeue", task)


def _lose_the_node(cluster: Cluster, task: str) -> None:
    node = _node(cluster, task)
    cluster.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    cluster.command("scontrol", "update", f"nodename={node}", "state=resume")


@pytest.mark.parametrize(
    ("fault", "starts"),
    [
        (_preempt, 2),
        (_reach_the_time_limit, 2),
        (_requeue, 2),
        (_lose_the_node, 2),
    ],
)
def test_a_disturbed_task_ends_as_if_undisturbed(
    cluster: Cluster,
    request_for: Make,
    tmp_path: Path,
    fault: Callable[[Cluster, str], None],
    starts: int,
) -> None:
    options = {"partition": "low", "signal-seconds": 50}
    sent = _start(request_for, tmp_path, "beside", "disturbed", **options)
    # The second of two tasks: it has the array's number as its own.
    fault(cluster, sent.tasks["disturbed"])
    _finish(tmp_path, "disturbed", starts)
    if fault in (_requeue, _reach_the_time_limit):  # the others reach all of a node
        assert _state(tmp_path, "beside")["starts"] == 1
        assert not _result(tmp_path, "beside")


def test_a_task_does_not_notice_that_slurmctld_restarts(
    cluster: Cluster, request_for: Make, tmp_path: Path
) -> None:
    sent = _start(request_for, tmp_path, "p", toy={"steps": 40})
    cluster.signal("slurmctld", signal.SIGTERM)
    cluster.up()
    until(lambda: _result(tmp_path, "p"), "it to finish")
    assert _state(tmp_path, "p")["starts"] == 1
    until(lambda: not cluster.state(sent.tasks["p"]), "slurmctld to hear of it")


def test_a_killed_process_fails_and_a_new_submission_continues_it(
    cluster: Cluster, request_for: Make, tmp_path: Path
) -> None:
    sent = _start(request_for, tmp_path, "p")
    pids = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_task(entry, sent)
    ]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    job, number = map(int, sent.tasks["p"].split("_"))
    ended = queue.TaskState("ended", "FAILED")
    until(
        lambda: queue.read(time.time() - 600).task(job, number) == ended,
        "sacct to say that it failed",
    )
    _start(request_for, tmp_path, "p")
    _finish(tmp_path, "p", starts=2)


def _is_task(entry: Path, sent: Sent) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
        environment = (entry / "environ").read_bytes()
    except OSError:
        return False
    mine = f"SLURM_ARRAY_JOB_ID={sent.jobs[0]}".encode()
    return b"tests.slurm.toy" in words and b"srun" not in words and mine in environment


def test_a_cancelled_task_stays_cancelled(
    cluster: Cluster, request_for: Make, tmp_path: Path
) -> None:
    sent = _start(request_for, tmp_path, "cancelled", "other", partition="low")
    cluster.command("scancel", sent.tasks["cancelled"])
    until(lambda: not cluster.state(sent.tasks["cancelled"]), "the task to leave")
    time.sleep(6)  # as long as a requeued job waits here before it starts
    assert cluster.state(sent.tasks["cancelled"]) == ""
    assert _state(tmp_path, "cancelled")["starts"] == 1
    # It saved what it had, and a new submission continues there.
    assert _state(tmp_path, "cancelled")["step"] > 0
    _start(request_for, tmp_path, "cancelled")
    _finish(tmp_path, "cancelled", starts=2)


def test_preempted_before_any_progress_it_is_left_to_slurm(
    cluster: Cluster, request_for: Make, tmp_path: Path
) -> None:
    cluster.command("scontrol", "update", "partitionname=low", "gracetime=4")
    try:
        more = {"stuck": True}
        sent = _start(request_for, tmp_path, "p", partition="low", toy=more)
        _displace(cluster, sent.tasks["p"])
        until(lambda: _state(tmp_path, "p")["starts"] == 2, "Slurm to requeue it")
    finally:
        cluster.command("scontrol", "update", "partitionname=low", "gracetime=15")


def test_without_progress_a_time_limit_ends_it(
    cluster: Cluster, request_for: Make, tmp_path: Path
) -> None:
    options = {"signal-seconds": 50, "toy": {"stuck": True}}
    sent = _start(request_for, tmp_path, "p", **options)
    _reach_the_time_limit(cluster, sent.tasks["p"])
    until(lambda: not cluster.state(sent.tasks["p"]), "the task to leave")
    assert _state(tmp_path, "p")["starts"] == 1
    assert not _result(tmp_path, "p")


def test_a_lost_node_is_not_an_end(cluster: Cluster, request_for: Make, tmp_path: Path) -> None:
    sent = _start(request_for, tmp_path, "p", toy={"steps": 30})
    job, number = map(int, sent.tasks["p"].split("_"))
    _lose_the_node(cluster, sent.tasks["p"])

    def look() -> str | None:
        snapshot = queue.read(time.time() - 600)
        # The trap: sacct shows an end while squeue has the same job waiting.
        failed = snapshot.ended.get((job, number))
        return snapshot.task(job, number).name if failed and failed.state == "NODE_FAIL" else None

    assert until(look, "sacct to show NODE_FAIL") == "requeued"
    until(lambda: _result(tmp_path, "p"), "it to finish")


def test_slurmdbd_down_costs_only_the_past(
    cluster: Cluster, request_for: Make, tmp_path: Path
) -> None:
    sent = _start(request_for, tmp_path, "p", toy={"steps": 300})
    cluster.signal("slurmdbd", signal.SIGKILL)
    job, number = map(int, sent.tasks["p"].split("_"))
    snapshot = queue.read(time.time() - 600)
    assert not snapshot.accounting
    assert snapshot.task(job, number).name == "running"
    more = _start(request_for, tmp_path, "q", toy={"steps": 1})
    assert more.jobs
