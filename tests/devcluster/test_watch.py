"""Watch and operate submissions on a real Slurm: what is asked of it, and what it then does."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.files import write_json
from benchmark.cli.words import operate as words
from benchmark.cli.words.retry import lines
from benchmark.cli.words.status import status as to_lines
from benchmark.monitor.everybody import shares
from benchmark.monitor.look import look
from benchmark.monitor.status import read_status
from benchmark.monitor.summary import TableStatus
from benchmark.operate.clean import clean
from benchmark.operate.retry import retry
from benchmark.operate.stop import cancel, pause, resume
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.slurm.queue_cache import Question
from benchmark.slurm.queue_cache import read as read_queue
from benchmark.submission.arrays import Arrays
from benchmark.submission.folder import Folder
from benchmark.submission.submission import new_submission
from tests.devcluster.conftest import DEVCLUSTER, Cluster, toy, until
from tests.devcluster.trainings import executor
from tests.devcluster.trainings import submit as submit_table
from tests.helpers import digits_plan

pytestmark = pytest.mark.slurm

Send = Callable[..., list[int]]


@pytest.fixture
def runs_dir() -> Iterator[Path]:
    """A runs directory in memory: 10,000 marks on a busy disk take what it pleases."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def send(request_for: Callable[..., Arrays], runs_dir: Path, tmp_path: Path, digits: Path) -> Send:
    """Return a function that sends a toy for each run, in a submission folder of its own."""

    def sender(runs: list[Run], steps: int = 600, **options: Any) -> list[int]:
        packs = [Pack("digits", (run,)).file(runs_dir, digits) for run in runs]
        for pack in packs:
            toy(pack.id, tmp_path, steps)
        folder = new_submission("digits", [], runs_dir, digits).folder
        return replace(request_for(packs, **options), table="digits", folder=folder).send()

    return sender


@pytest.fixture(scope="module")
def students(digits: Path) -> list[Run]:
    only = ["row=Student", "column=wrn_16_2-resnet8"]
    return list(digits_plan(digits, only, seeds="0-9999").runs)


def _one(runs_dir: Path, data: Path) -> TableStatus:
    (found,) = read_status(runs_dir, data).tables
    return found


def test_ten_thousand_tasks_are_seen_with_two_calls(
    cluster: Cluster,
    send: Send,
    calls: Callable[[], list[str]],
    runs_dir: Path,
    digits: Path,
    students: list[Run],
) -> None:
    sent = send(students, **{"array-parallelism": 2})
    until(lambda: cluster.command("squeue", "-h", "-t", "R"), "a task to run")
    calls()
    found = _one(runs_dir, digits)
    assert calls() == ["squeue", "sacct"]
    assert sum(found.runs.values()) == 10_000
    assert found.runs["queued"] >= 9_990
    assert found.runs["running"] >= 1

    said = words.cancelled(cancel(runs_dir, "digits", None, False))
    until(lambda: not cluster.command("squeue", "-h", "-t", "PD,R"), "all to be cancelled")
    assert calls() == ["squeue", "sacct", *["scancel"] * len(sent)]
    assert said[0].startswith("cancelled 10,000 runs: 10,000 tasks")
    assert _one(runs_dir, digits).runs == {"cancelled": 10_000}


def test_a_run_on_a_lost_node_is_requeued_not_failed(
    cluster: Cluster, send: Send, runs_dir: Path, digits: Path, students: list[Run]
) -> None:
    (job,) = send(students[:1])
    task = f"{job}_0"
    until(lambda: cluster.state(task) == "RUNNING", "the task to run")
    node = cluster.command("squeue", "-h", "-o", "%N", "-j", task)
    cluster.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    until(
        lambda: (
            "NODE_FAIL" in cluster.command("sacct", "-n", "-X", "-D", "-o", "state", "-j", str(job))
        ),
        "sacct to call it an end",
    )
    status = read_status(runs_dir, digits)
    (found,) = status.tables
    assert dict(found.runs) == {"queued": 1}
    assert sum(found.requeued.values()) == 1
    assert found.failures == ()
    assert any("requeued" in line for line in to_lines(status))
    # Nor does retrying send it twice.
    assert lines(retry(runs_dir, None, failed=True, cancelled=False)) == ["nothing to retry"]


def test_what_is_paused_waits_and_what_is_resumed_runs(
    cluster: Cluster,
    send: Send,
    runs_dir: Path,
    digits: Path,
    students: list[Run],
    tmp_path: Path,
) -> None:
    send(students[:3], steps=10, **{"array-parallelism": 1})
    ended = lambda: len(list(tmp_path.glob("*.result.json")))  # noqa: E731
    until(lambda: cluster.command("squeue", "-h", "-t", "R"), "a task to run")
    pause(runs_dir, "digits")
    until(lambda: not cluster.command("squeue", "-h", "-t", "R,CG"), "what runs to end")
    assert ended() < 3
    found = _one(runs_dir, digits)
    assert found.runs["held"] == 3 - ended()
    assert next(iter(found.held)).startswith("paused by")
    resume(runs_dir, None)
    until(lambda: ended() == 3, "the rest to run")


def test_what_starts_in_a_paused_submission_holds_itself(
    cluster: Cluster, send: Send, runs_dir: Path, students: list[Run], tmp_path: Path
) -> None:
    """The mark alone is there where Slurm could not be told to hold anything."""
    send(students[:2], steps=1, setup=("sleep 1",))
    (folder,) = (runs_dir / ".submissions").iterdir()
    write_json(Folder(folder).paused, {"schema": 1, "reason": "paused"})
    held = lambda: look(runs_dir).standings  # noqa: E731
    until(
        lambda: all(s.name == "held" and s.requeued for s in held().values()),
        "both to have started and held themselves",
    )
    assert not list(tmp_path.glob("*.result.json"))
    resume(runs_dir, None)
    until(lambda: len(list(tmp_path.glob("*.result.json"))) == 2, "both to run")


@pytest.fixture
def without_accounting(cluster: Cluster) -> Iterator[Cluster]:
    """A second cluster, of one node and with no slurmdbd."""
    root = cluster.root.with_name(f"{cluster.root.name}-plain")
    plain = Cluster(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCOUNTING", "no")
        patch.setenv("NODES", "1")
        patch.setenv("SLURM_CONF", str(root / "etc" / "slurm.conf"))
        plain.up()
        yield plain
    subprocess.run([str(DEVCLUSTER / "down.sh"), str(root)], check=True, timeout=60)
    shutil.rmtree(root)


def test_a_cluster_without_accounting(
    without_accounting: Cluster, send: Send, runs_dir: Path, digits: Path, students: list[Run]
) -> None:
    (job,) = send(students[:2], **{"array-parallelism": 1})
    first, second = f"{job}_0", f"{job}_1"
    until(lambda: without_accounting.state(first) == "RUNNING", "a task to run")
    without_accounting.command("scancel", second)
    until(lambda: not without_accounting.state(second), "the other to leave the queue")
    status = read_status(runs_dir, digits)
    assert status.warnings == ()
    assert dict(status.tables[0].runs) == {"running": 1, "stopped": 1}
    found = retry(runs_dir, None, failed=True, cancelled=False, dry_run=True)
    assert "digits: 1 run would go to slurm" in lines(found)


def test_while_slurmctld_is_stopped_its_last_answer_is_shown(
    cluster: Cluster,
    send: Send,
    runs_dir: Path,
    digits: Path,
    students: list[Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(students[:4], **{"array-parallelism": 1})
    before = _one(runs_dir, digits)
    monkeypatch.setattr("benchmark.slurm.commands.PATIENCE_SECONDS", 0.0)
    cluster.signal("slurmctld", signal.SIGTERM)
    try:
        status = read_status(runs_dir, digits)
    finally:
        cluster.up()
    assert "slurmctld cannot be reached" in status.warnings[0]
    assert "s ago" in status.warnings[0]
    assert status.tables[0].runs == before.runs


def test_a_training_is_watched_cancelled_and_taken_up_again(
    cluster: Cluster, runs_dir: Path, digits: Path
) -> None:
    only = ["row=Student", "column=wrn_40_2-wrn_16_1"]
    sets = ["recipe.epochs=100000", "recipe.eval_every=100000"]
    plan = digits_plan(digits, only, sets=sets)
    (run,) = plan.runs
    rundir = RunDir(runs_dir, run.key)
    submit_table(plan, runs_dir, digits, partition="main")
    until(lambda: rundir.read_records(), "an epoch to end")
    found = _one(runs_dir, digits)
    assert dict(found.runs) == {"running": 1}
    assert found.images_per_second > 0
    assert found.ends is not None
    assert found.hours > 0
    (share,) = shares(read_queue(Question(time.time(), all_users=True), 0).snapshot)
    assert (share.table, share.tasks["running"]) == ("digits", 1)

    cancel(runs_dir, None, run.key, False)
    until(lambda: not cluster.command("squeue", "-h"), "the task to leave")
    assert rundir.checkpoint.exists()
    assert dict(_one(runs_dir, digits).runs) == {"cancelled": 1}
    submit_table(plan, runs_dir, digits, partition="main")
    assert cluster.command("squeue", "-h") == ""
    assert clean(runs_dir, None, older_than=0).removed == ()
    assert rundir.checkpoint.exists()

    assert retry(runs_dir, None, failed=False, cancelled=True).code == 0
    task = look(runs_dir).works[run.key].task
    assert task is not None
    until(lambda: cluster.state(task) == "RUNNING", "it to run again")
    starts = lambda: len(json.loads(rundir.provenance.read_text())["starts"])  # noqa: E731
    until(lambda: starts() == 2, "it to continue")
    assert executor(partition="main").queue(runs_dir).runs.keys() == {run.key}
