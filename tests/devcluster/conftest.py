"""A real Slurm for these tests: slurm/devcluster/, brought up once a session.

In CI its absence is a failure; elsewhere the tests are skipped until `make slurm` has
installed it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.trust import own_name
from benchmark.planning.packs import Pack
from benchmark.run.pack_file import PackFile
from benchmark.slurm import commands
from benchmark.slurm.profile import Profile, Resources
from benchmark.submission.arrays import Arrays
from benchmark.submission.folder import Folder
from benchmark.submission.snapshot import CodeCopy, take_snapshot
from benchmark.submission.submission import new_submission
from tests.helpers import digits_plan

PROJECT = Path(__file__).resolve().parents[2]
DEVCLUSTER = PROJECT / "slurm" / "devcluster"
PATIENCE = 240.0  # seconds; machines do other things too


@dataclass(frozen=True)
class Cluster:
    """The running cluster and what tests do to it."""

    root: Path

    def command(self, *words: str) -> str:
        """Run one of Slurm's commands, outside the tool's own call log."""
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip()

    def up(self) -> None:
        """Start whatever of the cluster is not running, and hand nodes back."""
        subprocess.run(
            [str(DEVCLUSTER / "up.sh"), str(self.root)],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    def pid(self, daemon: str) -> int:
        """The process of slurmctld, slurmdbd, slurmd.n1 ..."""
        return int((self.root / "run" / f"{daemon}.pid").read_text())

    def signal(self, daemon: str, number: signal.Signals) -> None:
        """Signal a daemon; after a fatal signal wait until it has gone."""
        pid = self.pid(daemon)
        os.kill(pid, number)
        if number in (signal.SIGTERM, signal.SIGKILL):
            until(lambda: _gone(pid), f"{daemon} to end")

    def state(self, task: str) -> str:
        """squeue's state of a task, empty where it is not there (any more)."""
        return self.command("squeue", "-h", "-o", "%T", "-j", task)

    def node(self, task: str) -> str:
        """Where a task runs, empty where it does not."""
        return self.command("squeue", "-h", "-o", "%N", "-j", task)

    def hand_back(self) -> None:
        """Do what an operator does after a fault: nodes back in service, held jobs released.

        slurmd refuses to start a job again while its killed processes are ending, and Slurm then
        holds the job and drains the node.
        """
        lost = self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%N", "-t", "drain,down,fail")
        for node in set(lost.split()):
            self.command("scontrol", "update", f"nodename={node}", "state=resume")
        for line in self.command("squeue", "-h", "-t", "pending", "-o", "%A|%r").splitlines():
            job, _, reason = line.partition("|")
            if "launch failed" in reason:
                self.command("scontrol", "release", job)

    def clear(self) -> None:
        """Leave an idle cluster for the next test."""
        self.up()
        user = own_name()
        self.command("scancel", "-u", user)
        until(lambda: not self.command("squeue", "-h", "-u", user), "the queue to empty")


def configure(cluster: Cluster, text: str) -> None:
    """Restart the controller with another configuration."""
    (cluster.root / "etc" / "slurm.conf").write_text(text)
    cluster.signal("slurmctld", signal.SIGTERM)
    subprocess.run(["slurmctld"], check=True, timeout=60)  # up.sh would write its own
    usable = lambda: cluster.command("sinfo", "-h", "-N", "-p", "main", "-o", "%T")  # noqa: E731
    until(lambda: set(usable().split()) == {"idle"}, "the nodes to be back")
    cluster.up()


def displace(cluster: Cluster, node: str, cpus: int) -> None:
    """Take CPUs of a node from the partition below."""
    words = ["sbatch", "-p", "main", "-w", node, f"-c{cpus}", "--mem=100M", "-t1"]
    cluster.command(*words, "-o", "/dev/null", "--wrap", "sleep 2")


def _gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def until(
    condition: Callable[[], Any],
    what: str,
    seconds: float = PATIENCE,
    told: Callable[[], str] = lambda: "",
) -> Any:
    """Wait until a condition holds and return it; fails with ``what`` was waited for.

    ``told`` says how things stood then.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"waited {seconds:.0f} s for {what}; {told()}".rstrip("; "))


class LostAnswer:
    """Stands between sbatch and slurmctld: passes the question on, stops slurmctld, and loses
    the answer.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        config = (cluster.root / "etc" / "slurm.conf").read_text()
        port = next(line for line in config.splitlines() if line.startswith("SlurmctldPort"))
        self._target = ("127.0.0.1", int(port.partition("=")[2]))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.config = config.replace(port, f"SlurmctldPort={self._server.getsockname()[1]}")
        self.taken = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._server.accept()
        with socket.create_connection(self._target) as controller:
            forward = threading.Thread(target=self._forward, args=(client, controller), daemon=True)
            forward.start()
            controller.recv(1)  # slurmctld has taken the job and begins to answer
            self._cluster.signal("slurmctld", signal.SIGSTOP)
            self.taken.set()
            client.close()
        self._server.close()

    @staticmethod
    def _forward(client: socket.socket, controller: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                controller.sendall(data)
        except OSError:
            pass


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[Cluster]:
    if shutil.which("slurmctld") is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Slurm; `make slurm` installs one")
        pytest.skip("there is no Slurm; `make slurm` installs one")
    default = f"/tmp/bench-devcluster-{os.getuid()}"
    cluster = Cluster(Path(os.environ.get("BENCH_DEVCLUSTER", default)))
    was_up = _is_up(cluster)
    cluster.up()
    yield cluster
    if not was_up:
        subprocess.run(
            [str(DEVCLUSTER / "down.sh"), str(cluster.root)], check=True, timeout=PATIENCE
        )


def _is_up(cluster: Cluster) -> bool:
    try:
        return not _gone(cluster.pid("slurmctld"))
    except (FileNotFoundError, ValueError):
        return False


@pytest.fixture
def cluster(
    session_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """The cluster, idle; the tool's call log and caches are this test's own."""
    monkeypatch.setenv("SLURM_CONF", str(session_cluster.root / "etc" / "slurm.conf"))
    monkeypatch.setenv("BENCH_CALL_LOG", str(tmp_path / "calls.jsonl"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    session_cluster.clear()
    yield session_cluster
    session_cluster.clear()


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """Return a function that lists the programs called so far, by no task, and forgets them."""

    def read() -> list[str]:
        path = tmp_path / "calls.jsonl"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return [line["command"].split()[0] for line in lines if "job" not in line]

    return read


def toy(
    name: str, folder: Path, steps: int = 10, depends: Sequence[str] = (), **more: Any
) -> PackFile:
    """A pack for tests/devcluster/toy.py."""
    (folder / f"{name}.toy.json").write_text(json.dumps({"steps": steps, **more}))
    where = {"runs_dir": folder, "data_dir": folder}
    empty: dict[str, Any] = {"keys": (), "cells": (), "runs": ()}
    return PackFile(id=name, table="toy", label=name, depends=tuple(depends), **empty, **where)


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> CodeCopy:
    """The copy of the code that toy tasks run."""
    return take_snapshot(tmp_path_factory.mktemp("code"))


@pytest.fixture
def request_for(cluster: Cluster, tmp_path: Path, code: CodeCopy) -> Callable[..., Arrays]:
    """Return a function that makes a submission of toy packs."""

    def make(packs: list[PackFile], **options: Any) -> Arrays:
        elsewhere = options.pop("elsewhere", {})
        nonce = secrets.token_hex(6)
        profile = Profile(**{"partition": "main", "time": "10", **options})
        return Arrays(
            table="toy",
            nonce=nonce,
            folder=Folder(tmp_path / f"submission-{nonce}"),
            packs=tuple(packs),
            profile=profile,
            resources={pack.id: Resources(1, "0", "100M") for pack in packs},
            limits=commands.read_limits(),
            code=code,
            elsewhere=elsewhere,
            environment={"TOY": str(tmp_path), "PYTHONPATH": str(PROJECT)},
            command=("-m", "tests.devcluster.toy"),
        )

    return make


@pytest.fixture(scope="module")
def running(
    session_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The cluster, idle at first, for the tests of a module together."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(session_cluster.root / "etc" / "slurm.conf"))
        patch.setenv("BENCH_CALL_LOG", str(folder / "calls.jsonl"))
        patch.setenv("XDG_STATE_HOME", str(folder))
        session_cluster.clear()
        yield session_cluster
        session_cluster.clear()


@pytest.fixture(scope="module")
def pace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that slows trainings down while it exists; tasks save their state every second."""
    path = tmp_path_factory.mktemp("pace") / "slowly"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PACE", str(path))
        patch.setenv("BENCH_CHECKPOINT_SECONDS", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield path


def send_digits(
    request: Arrays,
    digits: Path,
    runs: Path,
    tmp_path: Path,
    gpus: str = "0",
    steps: int = 20,
) -> list[int]:
    """Send three toys as runs of the digits table that ask for no memory of a node."""
    plan = digits_plan(digits, ["row=Student", "column=wrn_16_2-resnet8"], seeds="0-2")
    packs = tuple(Pack("digits", (run,)).file(runs, digits) for run in plan.runs)
    for pack in packs:
        toy(pack.id, tmp_path, steps=steps)
    folder = new_submission("digits", [], runs, digits).folder
    need = {pack.id: Resources(1, gpus, "none") for pack in packs}
    asked = replace(request, table="digits", folder=folder, packs=packs, resources=need)
    return asked.send()
