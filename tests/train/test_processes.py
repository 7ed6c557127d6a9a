"""Several real processes for one pack: the numbers of one process, whatever happens to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.submission.folder import Folder
from benchmark.submission.process import PackProcess
from tests.helpers import digits_plan, numbers, train

pytestmark = pytest.mark.slow

# 98 images in batches of 28: the last one gives 4, 4, 3 and 3 images to its replicas.
DIVIDED = ["recipe.replicas=4", "recipe.batch_size=28", "recipe.holdout=2", "recipe.eval_batch=100"]
SHORT = ["recipe.epochs=5", "recipe.eval_every=2", "recipe.schedule.milestones=[3]"]
METHODS = ("dhkd", "dist", "ft")  # two backward passes and dropout, a loss over a batch, two stages


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")  # after every step


@pytest.fixture
def three(digits: Path, tmp_path: Path) -> tuple[Run, list[Run]]:
    """A teacher, and three students of it that share a pack: 20 steps and a first stage."""
    table = tmp_path / "mine.yaml"
    rows = "".join(f"  - {{name: my {m}, methods: [{m}]}}\n" for m in METHODS)
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n{rows}")
    only = ["column=wrn_16_2-resnet8", *(f"row=my {m}" for m in METHODS)]
    sets = [*DIVIDED, *SHORT, "method.ft.prepare_epochs=1"]
    teacher, *students = digits_plan(digits, only, sets=sets, table=str(table)).runs
    return teacher, students


class Job:
    """A pack as the queue of this machine trains it, in so many processes."""

    def __init__(self, runs: Sequence[Run], data: Path, runs_dir: Path, processes: int) -> None:
        runs_dir.mkdir(exist_ok=True)
        folder = Folder(runs_dir / ".submissions" / f"job-{time.time_ns()}")
        folder.create()
        folder.logs.mkdir()
        pack = Pack("test", tuple(runs))
        self.began = time.time_ns()
        folder.write(0, [pack.file(runs_dir, data)])
        before = os.environ.get("BENCH_PROCESSES")
        os.environ["BENCH_PROCESSES"] = str(processes)
        try:
            self.process = PackProcess(folder, 0, pack.id, ())
        finally:
            if before is None:
                del os.environ["BENCH_PROCESSES"]
        self.pid = self.process._process.pid

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in found]

    def wait(self) -> dict[str, Any] | None:
        self.process._process.wait(timeout=300)
        return self.process.answer()

    def endings(self) -> set[str]:
        """How its runs ended."""
        answer = self.wait()
        assert answer is not None, self.log()
        return set(answer["endings"].values())

    def log(self) -> str:
        return self.process.log.read_text()


def until_saved(run: Run, runs_dir: Path, job: Job, times: int = 3) -> None:
    """Wait until a run has been saved some times more than before the job."""
    path = RunDir(runs_dir, run.key).checkpoint
    seen, deadline = {job.began}, time.monotonic() + 120
    while len(seen) <= times:
        assert time.monotonic() < deadline, job.log()
        assert not job.process.ended, job.log()
        with contextlib.suppress(FileNotFoundError):  # not yet, or between two names
            seen.add(max(job.began, path.stat().st_mtime_ns))
        time.sleep(0.01)


def gone(pids: Sequence[int]) -> bool:
    """Tell whether processes end within seconds."""
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/cwd").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_a_pack_on_one_two_and_four_processes(
    digits: Path, tmp_path: Path, three: tuple[Run, list[Run]]
) -> None:
    """With SIGTERM to one process, SIGKILL to another, and other numbers of them in between."""
    teacher, students = three
    undisturbed, moved = tmp_path / "undisturbed", tmp_path / "moved"
    train([teacher], digits, undisturbed)
    shutil.copytree(undisturbed / teacher.key, moved / teacher.key)
    assert set(train(students, digits, undisturbed).endings.values()) == {"done"}
    last = students[-1]

    job = Job(students, digits, moved, 4)
    until_saved(last, moved, job)
    workers = job.children()
    assert len(workers) == 3
    os.kill(workers[1], signal.SIGTERM)  # one is told to stop: all of them end, saved
    assert job.endings() <= {"stopped", "done"}, job.log()
    assert "process 2 was told to stop" in job.log()
    assert job.log().count(": 3 runs\n") == 1  # one process reports
    assert gone(workers)

    job = Job(students, digits, moved, 2)
    until_saved(last, moved, job)
    workers = job.children()
    os.kill(workers[0], signal.SIGKILL)
    assert job.endings() <= {"stopped", "done"}, job.log()
    assert "another process of the run ended without a word" in job.log()

    job = Job(students, digits, moved, 3)
    until_saved(last, moved, job)
    workers = job.children()
    os.kill(job.pid, signal.SIGKILL)  # the first one, without a word
    assert job.wait() is None
    assert gone(workers)

    for lease in moved.glob("*/lease.json"):
        os.utime(lease, (0, 0))  # as if it had waited to be given up
    assert Job(students, digits, moved, 4).endings() == {"done"}
    for run in students:
        assert numbers(moved, run) == numbers(undisturbed, run), run.key


@pytest.mark.parametrize("model", ["resnet8", "timm:deit_tiny_patch16_224"])
def test_one_network_alone(
    digits: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 steps in one process; in four until one of them is killed, and on in two."""
    (plain,) = digits_plan(digits, ["row=Student", "student=resnet8"], sets=[*DIVIDED, *SHORT]).runs
    recipe = plain.recipe.model_copy(
        update={"input_size": 32, "drop_path": 0.1 * (model[:4] == "timm")}
    )
    run = plain.model_copy(
        update={"model": model, "recipe": recipe, "versions": _versions(plain, model)}
    )
    one, several = tmp_path / "one", tmp_path / "several"
    assert set(train([run], digits, one).endings.values()) == {"done"}
    job = Job([run], digits, several, 4)
    until_saved(run, several, job)
    workers = job.children()
    assert len(workers) == 3
    os.kill(workers[2], signal.SIGKILL)
    assert job.endings() == {"stopped"}, job.log()
    assert gone(workers)
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "60")
    assert Job([run], digits, several, 2).endings() == {"done"}
    assert numbers(one, run) == numbers(several, run)


def _versions(run: Run, model: str) -> dict[str, int]:
    from benchmark.models import model_info

    others = {k: v for k, v in run.versions.items() if not k.startswith("model:")}
    return others | {f"model:{model}": model_info(model).version}


def test_one_run_that_fails_in_one_process_is_not_its_neighbours(
    digits: Path, tmp_path: Path, three: tuple[Run, list[Run]]
) -> None:
    teacher, students = three
    runs_dir = tmp_path / "runs"
    train([teacher], digits, runs_dir)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    pack = Pack("test", tuple(students)).file(runs_dir, digits)
    (tmp_path / "pack.json").write_text(pack.text())
    port = _free_port()
    command = [sys.executable, str(program), str(tmp_path / "pack.json")]
    processes = [
        subprocess.Popen(command, env=os.environ | _torchrun(port, number), stderr=subprocess.PIPE)
        for number in range(2)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    states = {run.methods[0].name: RunDir(runs_dir, run.key) for run in students}
    assert "only in process 1" in states["dist"].failure.read_text()
    for name in ("dhkd", "ft"):
        assert states[name].result.exists(), errors


PROGRAM = """
import os, sys
from pathlib import Path
from benchmark.methods.dist import DIST
from benchmark.run.pack_file import read_pack
from benchmark.submission.task import train_here
from benchmark.train.place import told
steps = 0
loss = DIST.loss
def fails(self, step):
    global steps
    steps += 1
    if os.environ["RANK"] == "1" and steps == 5:
        raise ValueError("only in process 1")
    return loss(self, step)
DIST.loss = fails
train_here(read_pack(Path(sys.argv[1]).read_text(), "pack"), place=told())
"""


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _torchrun(port: int, process: int) -> dict[str, str]:
    from benchmark.train.place import for_child

    return for_child(port, process, 2)
