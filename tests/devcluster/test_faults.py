"""Everything that a cluster does to trainings, done to a running table: the same numbers.

One table of seven runs serves all faults, since each costs seconds of starting and waiting.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmark.planning.matrix import Plan
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.slurm import commands, queue
from benchmark.slurm.notation import minutes
from benchmark.submission.sent import slurm_work
from tests.devcluster.conftest import PATIENCE, Cluster, LostAnswer, displace, until
from tests.devcluster.trainings import paced_plan, submit, submit_regardless
from tests.helpers import numbers, train_plan

pytestmark = pytest.mark.slurm


@dataclass
class Story:
    """What was done to which run of a table, and what was seen on the way."""

    runs: Path
    inline: Path
    victims: dict[str, Run] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def starts(self, run: Run) -> list[dict[str, Any]]:
        """Where and when a run was started."""
        path = RunDir(self.runs, run.key).provenance
        return list(json.loads(path.read_text())["starts"]) if path.exists() else []

    def tasks(self, run: Run) -> list[str]:
        """The tasks that were sent for a run, the first one first."""
        return [str(work.task) for work in slurm_work(self.runs) if run.key in work.keys]

    def logs(self, run: Run) -> str:
        paths = self.runs.glob(".submissions/*/*_log.out")
        mine = [path for path in paths if path.name.removesuffix("_0_log.out") in self.tasks(run)]
        return "\n".join(path.read_text() for path in sorted(mine))


@pytest.fixture(scope="module")
def story(
    running: Cluster, digits: Path, pace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    """Submit seven runs, disturb each while it trains, and let them finish."""
    place = tmp_path_factory.mktemp("story")
    story = Story(place / "runs", place / "inline")
    plan = paced_plan(digits, "1,2,3,4,5,6,7")
    train_plan(plan, digits, story.inline)
    (teacher,) = plan.teachers
    story.runs.mkdir()
    shutil.copytree(story.inline / teacher.key, story.runs / teacher.key)
    pace.touch()
    try:
        _submit(running, story, plan, digits)
        _choose(running, story, plan)
        _disturb(running, story, digits)
        _submit_again(running, story, plan, digits)
        _outlast(running, story)
    finally:
        pace.unlink()
        with contextlib.suppress(ProcessLookupError):
            running.signal("slurmctld", signal.SIGCONT)
    until(lambda: _finished(story, plan), "all runs to finish")
    return story


def _finished(story: Story, plan: Plan) -> bool:
    return all(RunDir(story.runs, run.key).result.exists() for run in plan.runs)


def _submit(cluster: Cluster, story: Story, plan: Plan, data: Path) -> None:
    """Submit while slurmctld is stopped between taking the array and answering."""
    between = LostAnswer(cluster)
    altered = story.runs / "slurm.conf"
    altered.write_text(between.config)
    good = commands.environment()["SLURM_CONF"]
    real_call = commands.call
    sent = []

    def call(command: list[str], timeout: float = 30) -> commands.Reply:
        # Only the submission goes through the lossy line.
        lossy = command[:2] == ["sbatch", "--parsable"]
        patch.setenv("SLURM_CONF", str(altered) if lossy else good)
        if lossy:
            sent.append(command)
            resume.start()
        return real_call(command, timeout if lossy else min(timeout, 5))

    def continue_later() -> None:
        between.taken.wait(PATIENCE)
        time.sleep(7)
        cluster.signal("slurmctld", signal.SIGCONT)

    resume = threading.Thread(target=continue_later)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "call", call)
        assert submit(plan, story.runs, data, **{"signal-seconds": 50}) == 0
    resume.join()
    story.seen["lost"] = between.taken.is_set()
    story.seen["sbatch calls"] = len(sent)
    story.seen["arrays"] = set(cluster.command("squeue", "-h", "-o", "%F").split())
    students = [run for run in plan.runs if run.teacher is not None]
    training = lambda: all(RunDir(story.runs, run.key).checkpoint.exists() for run in students)  # noqa: E731
    until(training, "every run to train", told=lambda: _standing(cluster))


def _choose(cluster: Cluster, story: Story, plan: Plan) -> None:
    """Choose what happens to whom: two runs share a node, one has a node to itself."""
    places: dict[str, list[Run]] = {}
    for run in plan.runs:
        if run.teacher is not None:
            (task,) = story.tasks(run)
            places.setdefault(cluster.node(task), []).append(run)
    nodes = sorted(places, key=lambda node: len(places[node]))
    assert [len(places[node]) for node in nodes] == [1, 2, 2, 2]
    (alone,), (limited, requeued), (cancelled, down), (one, other) = (places[n] for n in nodes)
    story.victims = {
        "slurmd and step killed": alone,
        "time limit": limited,
        "requeued": requeued,
        "cancelled": cancelled,
        "node set down": down,
        # Slurm chooses which of the two it preempts; the process of the other is killed.
        "preempted": one,
        "process killed": other,
    }


def _disturb(cluster: Cluster, story: Story, data: Path) -> None:
    task = {fault: story.tasks(run)[0] for fault, run in story.victims.items()}
    node = {fault: cluster.node(name) for fault, name in task.items()}
    _send_a_twin(cluster, story, data)

    _limit_time(cluster, task["time limit"])
    cluster.command("scontrol", "requeue", task["requeued"])
    cluster.command("scancel", task["cancelled"])
    _kill_node(cluster, node["slurmd and step killed"], task["slurmd and step killed"])
    displace(cluster, node["preempted"], cpus=1)

    def preempted() -> str:
        pair = ("preempted", "process killed")
        return next((f for f in pair if "PENDING" in cluster.state(task[f])), "")

    if until(preempted, "one to be preempted", PATIENCE) == "process killed":
        one, other = story.victims["preempted"], story.victims["process killed"]
        story.victims |= {"preempted": other, "process killed": one}
    (survivor,) = story.tasks(story.victims["process killed"])
    _kill(survivor)

    until(lambda: not cluster.state(task["cancelled"]), "the cancelled task to leave")
    down = node["node set down"]
    cluster.command("scontrol", "update", f"nodename={down}", "state=down", "reason=test")
    cluster.command("scontrol", "update", f"nodename={down}", "state=resume")
    until(lambda: not cluster.state(survivor), "the killed task to leave")


def _standing(cluster: Cluster) -> str:
    """How the queue and the nodes stand, for who reads of a failure."""
    jobs = cluster.command("squeue", "-h", "-o", "%i %T %r %N").replace("\n", ", ")
    return f"{jobs}; nodes {cluster.command('sinfo', '-h', '-N', '-p', 'main', '-o', '%N %T %E')}"


def _limit_time(cluster: Cluster, task: str) -> None:
    """Give a task the fewest minutes that let Slurm, which looks every 30 s, signal before."""
    passed = minutes(cluster.command("squeue", "-h", "-o", "%M", "-j", task).rpartition("-")[2])
    limit = int(passed + 35 / 60) + 1
    cluster.command("scontrol", "update", f"jobid={task}", f"timelimit={limit}")


def _send_a_twin(cluster: Cluster, story: Story, data: Path) -> None:
    """Start a second task for a run that is being trained."""
    run = story.victims["time limit"]
    before = len(story.starts(run))
    submit_regardless(run, story.runs, data)
    (_, twin) = story.tasks(run)
    until(lambda: not cluster.state(twin), "the second task to leave")
    story.seen["twin"] = story.logs(run)
    story.seen["twin started"] = len(story.starts(run)) - before


def _processes(task: str) -> list[int]:
    """The Python processes of a task."""
    job, _, number = task.partition("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={job}".encode(), f"SLURM_ARRAY_TASK_ID={number}".encode()}
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                mine = wanted <= set((entry / "environ").read_bytes().split(b"\0"))
                if mine and b"benchmark.cli.job" in words and b"srun" not in words:
                    found.append(int(entry.name))
    return found


def _kill(task: str) -> None:
    """Kill the processes of a task that trains."""
    processes = _processes(task)
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGKILL)


def _kill_node(cluster: Cluster, node: str, task: str) -> None:
    """Kill a node's slurmd, the task's slurmstepds and its process, as a crash would."""
    job = cluster.command("squeue", "-h", "-o", "%A", "-j", task)
    # Nothing else may go there before its end is noticed: what Slurm meant for a first start
    # would reach the second one.
    cluster.command("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    cluster.signal(f"slurmd.{node}", signal.SIGKILL)
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(
                f"slurmstepd: [{job}.".encode()
            ):
                os.kill(int(entry.name), signal.SIGKILL)
    _kill(task)


def _submit_again(cluster: Cluster, story: Story, plan: Plan, data: Path) -> None:
    """Submit the same table: what waits to run again is not sent a second time."""
    down = story.victims["node set down"]
    job, number = map(int, story.tasks(down)[0].split("_"))

    def look() -> queue.QueueSnapshot | None:
        snapshot = queue.read(time.time() - 600)
        # The trap: sacct shows an end while squeue has the same job waiting.
        failed = snapshot.ended.get((job, number))
        return snapshot if failed and failed.state == "NODE_FAIL" else None

    snapshot = until(look, "sacct to show NODE_FAIL")
    story.seen["after NODE_FAIL"] = snapshot.task(job, number).name
    cluster.signal("slurmdbd", signal.SIGKILL)
    story.seen["without slurmdbd"] = queue.read(time.time() - 600)
    before = len(slurm_work(story.runs))
    assert submit(plan, story.runs, data) == 0
    story.seen["sent again"] = {work.keys[0] for work in slurm_work(story.runs)[before:]}


def _outlast(cluster: Cluster, story: Story) -> None:
    """Wait until every victim trains again; restart slurmctld while they do."""
    lost = story.tasks(story.victims["slurmd and step killed"])[0]
    until(lambda: "PENDING" in cluster.state(lost), "the lost node to be noticed")
    cluster.up()
    for fault, run in story.victims.items():
        _wait_for_another_start(cluster, story, fault, run)
    before = {fault: story.starts(run) for fault, run in story.victims.items()}
    cluster.signal("slurmctld", signal.SIGTERM)
    cluster.up()
    after = {fault: story.starts(run) for fault, run in story.victims.items()}
    story.seen["restarted by slurmctld's restart"] = {
        fault for fault in before if after[fault] != before[fault] and fault != "time limit"
    }


def _wait_for_another_start(cluster: Cluster, story: Story, fault: str, run: Run) -> None:
    def started() -> bool:
        cluster.hand_back()
        return len(story.starts(run)) > 1

    until(started, f"{fault} to be over", told=lambda: _standing(cluster))


FAULTS = (
    "preempted",
    "time limit",
    "requeued",
    "node set down",
    "slurmd and step killed",
    "process killed",
    "cancelled",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disturbed_run_has_the_numbers_of_an_undisturbed_one(story: Story, fault: str) -> None:
    run = story.victims[fault]
    first, second, *_ = story.starts(run)
    # What Slurm ended for good comes back with a new submission only.
    gone = fault in ("process killed", "cancelled")
    assert (first["slurm_array_job"] != second["slurm_array_job"]) == gone
    assert gone or int(second["slurm_restart"]) >= 1
    assert numbers(story.runs, run) == numbers(story.inline, run)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("preempted", "SIGTERM: preempted; requeue"),
        ("time limit", "SIGUSR2: the time limit is near; requeue"),
        ("requeued", "SIGTERM: requeued by Slurm; leave"),
        ("cancelled", "SIGTERM: ended by Slurm (COMPLETING); leave"),
    ],
)
def test_a_task_that_hears_of_its_end_saves_its_state(story: Story, fault: str, words: str) -> None:
    log = story.logs(story.victims[fault])
    assert "the state is saved" in log
    assert words in log


def test_an_array_whose_answer_was_lost_is_sent_once(story: Story) -> None:
    assert story.seen["lost"]
    assert story.seen["sbatch calls"] == 1
    assert len(story.seen["arrays"]) == 1


def test_what_waits_to_run_again_is_not_sent_twice(story: Story) -> None:
    assert story.seen["after NODE_FAIL"] == "requeued"
    gone = {story.victims[fault].key for fault in ("process killed", "cancelled")}
    assert story.seen["sent again"] == gone


def test_of_two_tasks_on_one_run_one_leaves(story: Story) -> None:
    assert "last heartbeat" in story.seen["twin"]
    assert "leaving it alone" in story.seen["twin"]
    assert story.seen["twin started"] == 0


def test_no_task_notices_that_slurmctld_restarts(story: Story) -> None:
    assert story.seen["restarted by slurmctld's restart"] == set()


def test_without_slurmdbd_the_queue_is_known_all_the_same(story: Story) -> None:
    snapshot = story.seen["without slurmdbd"]
    job, number = map(int, story.tasks(story.victims["time limit"])[0].split("_"))
    assert not snapshot.accounting
    assert snapshot.task(job, number).name in ("running", "requeued")
