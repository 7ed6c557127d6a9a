"""Training on this machine: its resources, and whole submissions in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmark.base.machine import visible_gpus
from benchmark.cli.words.submit import standing
from benchmark.planning.pack_size import parse_pack_size
from benchmark.planning.remaining import plan_packs
from benchmark.planning.trial import check_trials
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import Lease
from benchmark.run.reading import read
from benchmark.submission.executors import executor_for
from benchmark.submission.hand_over import prepare_plan
from benchmark.submission.local_queue import FreeDevices, Need, need_of, read_submission
from benchmark.submission.submission import new_submission
from benchmark.table.recipe import override
from tests.cli.command import bench
from tests.helpers import SHORT, digits_plan

KD = ("column=wrn_16_2-resnet8", "row=KD")
SETS = [argument for field in SHORT for argument in ("--set", field)]


@pytest.fixture
def run(digits: Path) -> Run:
    return digits_plan(digits, KD).runs[-1]


# -- resources ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [
        ("", []),
        ("0", ["0"]),
        ("2, 3", ["2", "3"]),
        ("GPU-8932f937,MIG-c6d4f1ef", ["GPU-8932f937", "MIG-c6d4f1ef"]),
        ("-1", []),
        ("0,-1,1", ["0"]),  # as CUDA reads it
        ("NoDevFiles", []),
    ],
)
def test_gpus_are_those_that_cuda_would_show(
    monkeypatch: pytest.MonkeyPatch, variable: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus


def test_packs_take_what_they_need_and_give_it_back() -> None:
    free = FreeDevices(cpus=4, gpus=["2", "GPU-a"])
    first = free.take(Need(1, gpus=1))
    second = free.take(Need(1, gpus=1))
    assert (first, second) == (["2"], ["GPU-a"])
    assert free.take(Need(1, gpus=1)) is None
    assert free.take(Need(3, gpus=0)) is None
    assert free.take(Need(2, gpus=0)) == []
    assert free.cpus == 0
    free.give(Need(1, gpus=1), ["2"])
    assert free.take(Need(1, gpus=1)) == ["2"]


def test_a_pack_never_waits_for_more_cpus_than_there_are(run: Run) -> None:
    wide = run.model_copy(update={"recipe": override(run.recipe, {"threads": 64})})
    assert need_of(wide, 2, 0) == Need(2, gpus=0)
    assert need_of(run, 2, 0) == Need(1, gpus=0)
    gpu = run.model_copy(update={"recipe": override(run.recipe, {"device": "cuda"})})
    assert need_of(gpu, 2, 1).gpus == 1


@pytest.mark.parametrize("cluster", ["local", "inline"])
def test_a_gpu_that_is_not_there_is_missed_before_anything_starts(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    where = ("--data", digits, "--runs", tmp_path / "runs")
    arguments = ("submit", "--table", "digits", "--cluster", cluster, "--wait", *where)
    ended = bench(*arguments, "--only", "row=KD", "--set", "recipe.device=cuda")
    assert ended.code == 2
    assert "this machine shows none; add --set recipe.device=cpu" in ended.err
    assert not list(tmp_path.glob("runs/digits*"))


# -- submissions ----------------------------------------------------------------------------------


def test_a_submission_is_read_as_it_was_written(digits: Path, tmp_path: Path) -> None:
    plan = digits_plan(digits, ["column=wrn_16_2-resnet8"], seeds="0-2")
    packs = plan_packs(plan, list(plan.runs), 3)
    plugin = tmp_path / "mine.py"
    written = new_submission("digits", packs, tmp_path / "runs", digits, [plugin], "resident")
    written.write("local")
    read = read_submission(written.folder)
    assert {pack.id: pack for pack in read.packs} == {pack.id: pack for pack in packs}
    assert read.plugins == (plugin,)
    assert (read.table, read.nonce, read.reader) == ("digits", written.nonce, "resident")
    assert (read.runs_dir, read.data_dir) == (tmp_path / "runs", digits)
    seen: set[str] = set()
    for pack in read.packs:
        assert set(pack.depends) <= seen
        seen.add(pack.id)
    places = [written.folder.path, *written.folder.path.glob("*/")]
    modes = {place.stat().st_mode & 0o777 for place in places}
    assert modes == {0o700}


def submit(digits: Path, runs_dir: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Submit the digits' KD of one seed, as a user does who keeps files from others."""
    only = [argument for item in KD for argument in ("--only", item)]
    where = ["--data", str(digits), "--runs", str(runs_dir), "--cluster", "local"]
    command = ["submit", "--table", "digits", "--seeds", "0", *only, *SETS, *where, *more]
    return subprocess.run(
        [sys.executable, "-c", "from benchmark.cli import main; main()", *command],
        capture_output=True,
        text=True,
        check=False,
        umask=0o027,
    )


@pytest.mark.slow
def test_from_a_command_to_results(digits: Path, tmp_path: Path) -> None:
    teacher, student = digits_plan(digits, KD).runs
    check_trials([teacher, student], digits)  # once for all the processes below
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    in_the_way = runs_dir / student.key
    in_the_way.write_text("in the way")
    done = submit(digits, runs_dir, "--wait")
    assert done.returncode == 1
    assert (
        f"left out: {student.key}: {in_the_way} is not a directory; move {in_the_way} away"
        in done.stderr
    )
    assert "1/1 runs done" in done.stderr
    assert "Traceback" not in done.stderr
    assert read(RunDir(runs_dir, teacher.key)).state == "done"

    in_the_way.unlink()
    done = submit(digits, runs_dir)
    assert done.returncode == 0
    assert "1 of 2 runs done, 1 to train" in done.stderr
    assert "apart from this terminal: it survives logout" in done.stderr
    again = submit(digits, runs_dir)
    assert again.returncode == 0
    assert "left to another process" in again.stderr or "2 of 2 runs done" in again.stderr
    result = RunDir(runs_dir, student.key).result
    deadline = time.monotonic() + 120
    while not result.exists():
        assert time.monotonic() < deadline, list(runs_dir.glob(".submissions/*/logs/*"))
        time.sleep(0.1)
    assert RunDir(runs_dir, student.key).read_result()["metrics"]["top1"]["last"] > 0
    for path in (*runs_dir.glob("*/result.json"), *runs_dir.glob("*/records.jsonl")):
        assert path.stat().st_mode & 0o777 == 0o640, "also in a queue of its own"

    before = result.stat().st_mtime_ns
    done = submit(digits, runs_dir, "--wait")
    assert done.returncode == 0
    assert "2 of 2 runs done, 0 to train" in done.stderr
    assert result.stat().st_mtime_ns == before


def test_students_of_a_teacher_that_is_being_trained_wait(digits: Path, tmp_path: Path) -> None:
    plan = digits_plan(digits, KD)
    teacher, student = plan.runs
    rundir = RunDir(tmp_path, teacher.key)
    rundir.create(teacher)
    lease = Lease.acquire(rundir)
    found = prepare_plan(
        plan,
        executor_for("inline", None),
        runs_dir=tmp_path,
        data_dir=digits,
        pack_size=parse_pack_size("auto"),
    )
    said = " ".join(standing(found))
    assert found.start(wait=False) == 0
    assert found.start(wait=True) == 1  # there are runs without a result
    assert "left to another process, which trains now or next: 1 run" in said
    assert "left until another process has trained their teacher: 1 run;" in said
    assert not RunDir(tmp_path, student.key).path.exists()
    lease.check()


def test_ctrl_c_saves_the_state_and_leaves(digits: Path, tmp_path: Path) -> None:
    (run,) = digits_plan(digits, ["row=Student", "student=resnet8"], sets=LONG).runs
    rundir = RunDir(tmp_path, run.key)

    def press() -> None:
        while not rundir.records.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    only = ("--only", "row=Student", "--only", "student=resnet8", "--seeds", "0")
    sets = [argument for field in LONG for argument in ("--set", field)]
    where = ("--cluster", "inline", "--data", digits, "--runs", tmp_path)
    ended = bench("submit", "--table", "digits", *only, *sets, *where)
    thread.join()
    assert ended.code == 1
    assert "stopped: SIGINT; the state is saved" in ended.err
    assert "submit again to continue" in ended.err
    assert rundir.checkpoint.exists()
    assert read(rundir).state == "stopped"
    assert "stopped   1 run: stopped by you (Ctrl-C)" in bench("status", "--runs", tmp_path).out


LONG = ("recipe.epochs=5000", "recipe.schedule.milestones=[4000]", "recipe.eval_every=1000")


@pytest.mark.slow
def test_ctrl_c_at_a_queue_reaches_its_packs(digits: Path, tmp_path: Path) -> None:
    (run,) = digits_plan(digits, ["row=Student", "student=resnet8"], sets=LONG).runs
    rundir = RunDir(tmp_path, run.key)
    sets = [argument for field in LONG for argument in ("--set", field)]
    only = ["--only", "row=Student", "--only", "student=resnet8", "--seeds", "0"]
    where = ["--cluster", "local", "--data", str(digits), "--runs", str(tmp_path), "--wait"]
    command = ["submit", "--table", "digits", *only, *sets, *where]
    process = subprocess.Popen(
        [sys.executable, "-c", "from benchmark.cli import main; main()", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's group: the signal reaches all of it
    )
    while not rundir.records.exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "stopping: 1 pack to save; submit again to continue" in said
    assert f"{run.key}: stopped: SIGTERM" in said
    assert "Traceback" not in said
    assert rundir.checkpoint.exists()
    assert read(rundir).state == "stopped"
    assert "stopped   1 run: stopped by you (Ctrl-C)" in bench("status", "--runs", tmp_path).out
