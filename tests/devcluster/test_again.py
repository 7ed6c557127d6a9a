"""What Slurm holds, what is sent again while it ends, whom students wait for: on a real Slurm."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli.words import operate as words
from benchmark.cli.words.retry import lines
from benchmark.cli.words.status import status as to_lines
from benchmark.monitor.look import look
from benchmark.monitor.status import read_status
from benchmark.operate.retry import retry
from benchmark.operate.stop import resume
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.submission.arrays import Arrays
from benchmark.submission.submission import new_submission
from benchmark.submission.successors import lead_students
from tests.devcluster.conftest import Cluster, toy, until
from tests.devcluster.trainings import executor
from tests.devcluster.trainings import submit as submit_table
from tests.helpers import digits_plan

pytestmark = pytest.mark.slurm

# Runs of a table, each with the run that it waits for, as toys that take so many steps.
Send = Callable[..., Arrays]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def send(request_for: Callable[..., Arrays], runs_dir: Path, tmp_path: Path, digits: Path) -> Send:
    """Return a function that sends a toy for each run: its steps, and whom it waits for."""

    def sender(*toys: tuple[Run, int, str | None]) -> Arrays:
        packs = {}
        for run, steps, after in toys:
            pack = Pack("digits", (run,), depends=(packs[after].id,) if after else ())
            packs[run.key] = pack.file(runs_dir, digits)
            toy(packs[run.key].id, tmp_path, steps)
        folder = new_submission("digits", [], runs_dir, digits).folder
        request = request_for(list(packs.values()))
        request = replace(request, table="digits", folder=folder)
        request.send()
        return request

    return sender


@pytest.fixture
def broken_prolog(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A cluster whose nodes cannot start any job; call what is given to mend it."""
    config = cluster.root / "etc" / "slurm.conf"
    before = config.read_text()
    prolog = tmp_path / "prolog"
    prolog.write_text("#!/bin/sh\nexit 1\n")
    prolog.chmod(0o755)

    def mend() -> None:
        config.write_text(before)
        cluster.command("scontrol", "reconfigure")
        cluster.up()  # nodes were drained: "Prolog error"

    config.write_text(f"{before}Prolog={prolog}\n")
    cluster.command("scontrol", "reconfigure")
    yield mend
    mend()


def test_what_slurm_holds_is_said_and_released(
    broken_prolog: Callable[[], None],
    cluster: Cluster,
    send: Send,
    runs_dir: Path,
    digits: Path,
    tmp_path: Path,
) -> None:
    plan = digits_plan(digits, ["row=Student", "column=wrn_16_2-resnet8"], seeds="0-1")
    send(*((run, 1, None) for run in plan.runs))
    why = "launch failed requeued held"
    reasons = lambda: cluster.command("squeue", "-h", "-o", "%r").splitlines()  # noqa: E731
    until(lambda: reasons() == [why] * 2, "Slurm to hold both")
    found = read_status(runs_dir, digits)
    assert dict(found.tables[0].held) == {f"held by Slurm: {why}": 2}
    assert f"2 runs: held by Slurm: {why}; `bench resume` releases them" in " ".join(
        " ".join(to_lines(found)).split()
    )
    # What does not release it says what does.
    told = lines(retry(runs_dir, None, failed=True, cancelled=False))
    assert told[-1] == f"2 tasks held by Slurm ({why}): `bench resume` releases them"
    queued = executor(partition="main").queue(runs_dir).runs
    assert {run.state for run in queued.values()} == {f"requeued ({why})"}
    broken_prolog()
    assert words.resumed(resume(runs_dir, None)) == [
        "resumed 1 submission",
        f"released 2 tasks that Slurm held: {why}",
    ]
    until(lambda: len(list(tmp_path.glob("*.result.json"))) == 2, "both to run")


def test_what_is_just_being_ended_is_sent_again_behind_it(
    cluster: Cluster, runs_dir: Path, digits: Path
) -> None:
    """The process hangs, so that Slurm takes seconds and its lease looks alive for minutes."""
    only = ["row=Student", "column=wrn_40_2-wrn_16_1"]
    sets = ["recipe.epochs=100000", "recipe.eval_every=100000"]
    plan = digits_plan(digits, only, sets=sets)
    (run,) = plan.runs
    rundir = RunDir(runs_dir, run.key)
    submit_table(plan, runs_dir, digits, partition="main")
    until(lambda: rundir.read_records(), "an epoch to end")
    first = look(runs_dir).works[run.key].task
    assert first is not None
    os.kill(json.loads(rundir.lease.read_text())["pid"], signal.SIGSTOP)
    cluster.command("scancel", first)
    until(lambda: cluster.state(first) == "COMPLETING", "Slurm to be ending it")
    assert submit_table(plan, runs_dir, digits, partition="main") == 0
    second = look(runs_dir).works[run.key].task
    assert second not in (None, first)
    behind = cluster.command("squeue", "-h", "-o", "%E", "-j", str(second))
    # Slurm forgets what a job waited for once that has ended, as it may have by now.
    assert behind.startswith(f"afterany:{first}") or cluster.state(first) != "COMPLETING"
    starts = lambda: len(json.loads(rundir.provenance.read_text())["starts"])  # noqa: E731
    until(lambda: starts() == 2, "the second to take it over")
    # What is queued once is not sent again.
    assert submit_table(plan, runs_dir, digits, partition="main") == 0
    assert look(runs_dir).works[run.key].task == second
    # Retrying waits until it is known how a task ended.
    os.kill(json.loads(rundir.lease.read_text())["pid"], signal.SIGSTOP)
    cluster.command("scancel", str(second))
    assert retry(runs_dir, None, failed=True, cancelled=False).code == 0
    third = look(runs_dir).works[run.key].task
    assert third not in (first, second)
    until(lambda: starts() == 3, "the third to take it over")


@pytest.mark.parametrize("led", [False, True])
def test_students_of_a_killed_teacher_wait_for_the_one_that_was_sent_again(
    cluster: Cluster, send: Send, runs_dir: Path, digits: Path, tmp_path: Path, led: bool
) -> None:
    """Led when it is sent; or else they start, find no teacher, and look for it themselves."""
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"])
    teacher, student = plan.runs
    send((teacher, 600, None), (student, 1, teacher.key))
    works = look(runs_dir).works
    killed, waiting = str(works[teacher.key].task), str(works[student.key].task)
    again = send((teacher, 60, None))
    new = str(look(runs_dir).packs[-1].task)
    if led:
        lead_students(runs_dir, again.folder)
    cluster.command("scancel", killed)
    behind = lambda: cluster.command("squeue", "-h", "-o", "%T %E", "-j", waiting)  # noqa: E731
    until(lambda: behind().startswith(f"PENDING afterany:{new}"), "the student to wait for it")
    restarts = cluster.command("squeue", "-h", "-O", "RestartCnt", "-j", waiting)
    assert restarts.strip() == ("0" if led else "1")
    ended = lambda name: (tmp_path / f"{name}.result.json").exists()  # noqa: E731
    pack = works[student.key].id
    until(lambda: ended(pack), "the student")
    assert ended(again.packs[0].id)
    assert json.loads((tmp_path / f"{pack}.result.json").read_text())["starts"] == 1
