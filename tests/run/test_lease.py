"""One process at a time holds a run: real processes, real deaths, real races."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmark.run import lease
from benchmark.run.directory import RunDir
from benchmark.run.lease import STALE_SECONDS, Lease, LeaseLostError, RunHeldError, is_held

# Takes every run that is named, in order; says which it got; lives until its input ends.
TAKER = """
import sys
from pathlib import Path
from benchmark.run.lease import Lease, RunHeldError
from benchmark.run.directory import RunDir
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
for key in sys.argv[2:]:
    try:
        Lease.acquire(RunDir(Path(sys.argv[1]), key))
        print("won", flush=True)
    except RunHeldError as error:
        print(error, flush=True)
print("end", flush=True)
sys.stdin.read()
"""
Process = subprocess.Popen[str]


@contextmanager
def takers(count: int, root: Path, *keys: str, **environment: str) -> Iterator[list[Process]]:
    """Processes that are ready to take the runs, at the same moment, once told to."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(root), *keys],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def take(processes: list[Process]) -> list[list[str]]:
    """Tell the processes to take the runs; return what each said of each run."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(list(iter(process.stdout.readline, "end\n")))
    return [[line.strip() for line in answer] for answer in answers]


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    return make(tmp_path, "run")


def make(root: Path, key: str) -> RunDir:
    found = RunDir(root, key)
    found.path.mkdir()
    return found


def grow_old(path: Path) -> None:
    then = time.time() - STALE_SECONDS - 1
    os.utime(path, (then, then))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def leftovers(rundir: RunDir) -> set[str]:
    return {path.name for path in rundir.path.iterdir()}


def test_the_second_process_leaves_with_a_clear_message(rundir: RunDir) -> None:
    with takers(1, rundir.root, "run") as first, takers(1, rundir.root, "run") as second:
        assert take(first) == [["won"]]
        assert is_held(rundir.lease)
        (answer,) = take(second)[0]
        assert f"run is held by process {first[0].pid} on " in answer
        assert answer.endswith("last heartbeat 0 s ago; leaving it alone")
        assert leftovers(rundir) == {"lease.json"}


def test_a_killed_process_loses_its_run_at_once(rundir: RunDir) -> None:
    with takers(1, rundir.root, "run") as first:
        take(first)
        first[0].kill()
        first[0].wait()
        assert not is_held(rundir.lease)
        lease = Lease.acquire(rundir)
    lease.check()
    assert leftovers(rundir) == {"lease.json"}
    lease.release()
    assert leftovers(rundir) == set()


def test_a_reused_process_id_does_not_keep_a_run(rundir: RunDir) -> None:
    Lease.acquire(rundir)
    edit(rundir.lease, pid_start="1")
    Lease.acquire(rundir).check()


def test_a_process_that_hangs_loses_its_run_and_notices(rundir: RunDir) -> None:
    paused = Lease.acquire(rundir)
    grow_old(rundir.lease)
    with takers(1, rundir.root, "run") as other:
        assert take(other) == [["won"]]
        with pytest.raises(LeaseLostError, match=r"lease\.json is gone or was taken over"):
            paused.renew()
        paused.release()  # what is not ours is not given back
        assert json.loads(rundir.lease.read_text())["pid"] == other[0].pid


def test_a_heartbeat_keeps_a_run(rundir: RunDir) -> None:
    lease = Lease.acquire(rundir)
    grow_old(rundir.lease)
    lease.renew()
    with takers(1, rundir.root, "run") as other:
        assert "is held by" in take(other)[0][0]


def test_another_host_is_believed_until_it_is_silent(rundir: RunDir) -> None:
    Lease.acquire(rundir)
    edit(rundir.lease, host="elsewhere", pid=1)
    with pytest.raises(RunHeldError, match="process 1 on elsewhere"):
        Lease.acquire(rundir)
    grow_old(rundir.lease)
    Lease.acquire(rundir).check()


def test_a_task_that_slurm_has_ended_holds_nothing(rundir: RunDir) -> None:
    """Killed on another host a moment ago: nothing but Slurm can tell."""
    Lease.acquire(rundir)
    edit(rundir.lease, host="elsewhere", array_job="12", array_task="3")
    for ended in ((), ("12_4", "123")):
        with pytest.raises(RunHeldError):
            Lease.acquire(rundir, ended)
    Lease.acquire(rundir, ["12_4", "12_3"]).check()


def test_a_reboot_frees_a_run(rundir: RunDir) -> None:
    Lease.acquire(rundir)
    edit(rundir.lease, boot="before")
    Lease.acquire(rundir).check()


def test_a_requeued_job_takes_its_run_back(rundir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    # The node it ran on is gone: nothing but Slurm's word tells that it has ended.
    job = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    Lease.acquire(rundir)
    edit(rundir.lease, host="dead-node")
    with pytest.raises(RunHeldError, match=r"\(job 7\)"):
        Lease.acquire(rundir)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    with pytest.raises(RunHeldError):
        Lease.acquire(rundir)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    Lease.acquire(rundir).check()


def test_a_killed_process_in_the_same_allocation_loses_its_run(rundir: RunDir) -> None:
    # An interactive allocation: both processes have one job id and no restart between them.
    with takers(1, rundir.root, "run", SLURM_JOB_ID="7") as first:
        take(first)
        first[0].kill()
        first[0].wait()
        with takers(1, rundir.root, "run", SLURM_JOB_ID="7") as second:
            assert take(second) == [["won"]]


def test_a_lease_that_a_crash_left_empty_does_not_block_for_ever(rundir: RunDir) -> None:
    rundir.lease.write_text("")
    assert is_held(rundir.lease)
    with pytest.raises(RunHeldError):
        Lease.acquire(rundir)
    grow_old(rundir.lease)
    Lease.acquire(rundir).check()


@pytest.mark.slow
def test_a_taker_that_died_in_between_does_not_block_the_next(rundir: RunDir) -> None:
    for depth in range(1, 4):  # each time the one that takes over dies before it has the lease
        with takers(1, rundir.root, "run") as dead:
            take(dead)
        holder = json.loads(rundir.lease.read_text())
        claim = rundir.path / f".claim.{holder['token']}"
        for level in range(depth):
            claim.write_text(json.dumps(holder | {"token": f"dead{level}"}))
            claim = rundir.path / f".claim.dead{level}"
        lease = Lease.acquire(rundir)
        assert leftovers(rundir) == {"lease.json"}
        lease.release()


@pytest.mark.slow
def test_of_many_that_race_for_a_run_one_wins(tmp_path: Path) -> None:
    states = ("free", "dead", "old", "claimed")
    keys = [f"{state}{number}" for number in range(5) for state in states]
    with takers(1, tmp_path, *[k for k in keys if not k.startswith("free")]) as dead:
        for key in keys:
            make(tmp_path, key)
        take(dead)
    for key in keys:
        rundir = RunDir(tmp_path, key)
        if key.startswith("old"):
            edit(rundir.lease, host="elsewhere")
            grow_old(rundir.lease)
        if key.startswith("claimed"):
            holder = json.loads(rundir.lease.read_text())
            (rundir.path / f".claim.{holder['token']}").write_text(
                json.dumps(holder | {"token": "dead"})
            )
    with takers(4, tmp_path, *keys) as racing:
        answers = take(racing)
        for key, *said in zip(keys, *answers, strict=True):
            assert said.count("won") == 1, (key, said)
            winner = racing[said.index("won")].pid
            rundir = RunDir(tmp_path, key)
            assert json.loads(rundir.lease.read_text())["pid"] == winner
            assert leftovers(rundir) == {"lease.json"}


def test_a_lease_that_changes_hands_between_two_looks_is_held(
    rundir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old lease is taken by another process while we look who holds it, and for how long."""
    with takers(1, rundir.root, "run") as dead:
        take(dead)
    edit(rundir.lease, host="elsewhere")
    grow_old(rundir.lease)
    with takers(1, rundir.root, "run") as others:
        said: list[str] = []

        def after(look: Callable[[Path], Any]) -> Callable[[Path], Any]:
            def looking(path: Path) -> Any:
                found = look(path)
                if not said:
                    said.extend(take(others)[0])
                return found

            return looking

        for name in ("_read", "_age"):
            monkeypatch.setattr(lease, name, after(getattr(lease, name)))
        with pytest.raises(RunHeldError, match="is held by"):
            Lease.acquire(rundir)
        assert said == ["won"]
        assert json.loads(rundir.lease.read_text())["pid"] == others[0].pid


def test_a_stopped_process_still_holds_its_run(rundir: RunDir) -> None:
    with takers(1, rundir.root, "run") as first:
        take(first)
        first[0].send_signal(signal.SIGSTOP)
        with pytest.raises(RunHeldError):
            Lease.acquire(rundir)
