"""How processes find each other, and what they say where they cannot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.train.crew import Interrupted
from benchmark.train.join import check_alike, facts, join
from benchmark.train.place import Place, for_child, in_step, told

SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_ID": "0",
    "SLURM_RESTART_COUNT": "3",
}


def test_places(tmp_path: Path) -> None:
    assert told({}) is None
    assert told({"WORLD_SIZE": "1"}) is None
    assert told(for_child(99, 1, 2)) == Place(1, 2, 1, "127.0.0.1", 99)
    with pytest.raises(UserError, match="WORLD_SIZE is set and LOCAL_RANK, MASTER_PORT is not"):
        told({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "here"})
    assert in_step(tmp_path, {}) is None
    assert in_step(tmp_path, SLURM | {"SLURM_NTASKS": "1"}) is None
    # Of this start alone: a file of an earlier one says nothing.
    assert in_step(tmp_path, SLURM) == Place(2, 4, 0, meeting=tmp_path / "meeting-17-0-3.json")
    own = SLURM | {"MASTER_ADDR": "node1", "MASTER_PORT": "5000"}
    assert in_step(tmp_path, own) == Place(2, 4, 0, "node1", 5000)


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} on .* is in use; set MASTER_PORT"):
            join(Place(0, 2, 0, "127.0.0.1", port))


@pytest.mark.slow
def test_a_process_that_does_not_come(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_JOIN_SECONDS", "0.3")
    with pytest.raises(UserError, match="process 1 of 2 did not come in time"):
        join(Place(0, 2, 0))
    meeting = tmp_path / "meeting.json"
    with pytest.raises(UserError, match="the first process did not come in time"):
        join(Place(1, 2, 0, meeting=meeting))
    with pytest.raises(UserError, match=r"the first process, at 127.0.0.1:1, did not come"):
        join(Place(1, 2, 0, "127.0.0.1", 1))


def test_a_process_that_dies_at_its_start() -> None:
    with pytest.raises(UserError, match="process 1 of the run ended at its start"):
        join(Place(0, 2, 0), alive=lambda: "process 1 of the run ended at its start (exit code 1)")


def test_a_request_to_stop_ends_the_waiting(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting.json"
    with pytest.raises(Interrupted, match="SIGTERM"):
        join(Place(0, 2, 0, meeting=meeting), stop=lambda: "SIGTERM")
    assert not meeting.exists()


def test_other_versions() -> None:
    ours = facts()
    check_alike([ours, ours | {"host": "other"}])
    with pytest.raises(UserError) as raised:
        check_alike([ours | {"host": "a"}, ours | {"host": "b", "torch": "1.0"}])
    assert str(raised.value) == (
        f"b (process 1) has torch 1.0, and a (process 0) has {ours['torch']}: all processes of a"
        " run must run the same"
    )
    with pytest.raises(UserError, match="has ffcv None"):
        check_alike([ours | {"ffcv": "1.0"}, {k: v for k, v in ours.items() if k != "ffcv"}])


OTHER = """
import sys
from benchmark.train import join
from benchmark.train.place import told
if sys.argv[1] == "1":
    whole = join.versions
    join.versions = lambda: whole() | {"torch": "0.9"}
try:
    join.join(told())
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_processes_with_other_versions() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OTHER, str(number)],
            env=os.environ | for_child(port, number, 2),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert "(process 1) has torch 0.9" in said
        assert len(said.splitlines()) == 1
