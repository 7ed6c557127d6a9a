"""Packs that start warm: a child of the nursery is as good as a process of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.run.directory import RunDir
from benchmark.submission.folder import Folder
from benchmark.submission.nursery import Nursery, WarmProcess
from benchmark.submission.process import PackProcess
from tests.helpers import SHORT, digits_plan
from tests.submission.test_local import submit

# A nursery of children that only say what they are; what a pack is to do is its number.
SMALL = """
import os, sys, threading, time
from benchmark.submission.nursery import serve
from benchmark.submission.process import answer
def train(folder, number, gpus, descriptor):
    if number == 1: raise ValueError("not this one")
    print("in", os.getsid(0) == os.getpid(), sys.stdin.read() == "", gpus, flush=True)
    while number == 2: time.sleep(0.01)
    answer(descriptor, {"pid": os.getpid()})
if os.environ.get("SECOND_THREAD"):
    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
sys.exit(serve(int(sys.argv[1]), train))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / ".submissions" / "one")
    folder.create()
    folder.logs.mkdir()
    return folder


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    found = Nursery(("-c", SMALL))
    yield found
    found.close()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def child(process: PackProcess) -> WarmProcess:
    """Return a process that is known to have been forked."""
    found = process._process
    assert isinstance(found, WarmProcess)
    until(lambda: found.poll() is not None or found.pid is not None)
    return found


def test_it_answers_and_has_a_session_and_a_log_of_its_own(
    folder: Folder, nursery: Nursery
) -> None:
    both = [PackProcess(folder, 0, name, gpus, nursery) for name, gpus in (("a", ["7"]), ("b", ()))]
    for process in both:
        until(lambda process=process: process.ended)
    answers = [process.answer() for process in both]
    assert [answer and answer["pid"] for answer in answers] == [child(p).pid for p in both]
    assert both[0].log.read_text() == "in True True ['7']\n"
    assert both[1].log.read_text() == "in True True []\n"
    assert child(both[0]).returncode == 0


def test_an_error_is_in_its_log(folder: Folder, nursery: Nursery) -> None:
    process = PackProcess(folder, 1, "a", (), nursery)
    until(lambda: process.ended)
    assert process.answer() is None
    assert process.last_words() == "ValueError: not this one"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signals_reach_it(number: signal.Signals, folder: Folder, nursery: Nursery) -> None:
    process = PackProcess(folder, 2, "a", (), nursery)
    if number == signal.SIGTERM:
        process.ask_to_stop()  # before it is there
    else:
        pid = child(process).pid
        assert pid is not None
        os.kill(pid, number)
    until(lambda: process.ended)
    assert process.answer() is None
    assert process.last_words() == f"killed by {number.name}"


def test_it_outlives_its_nursery(folder: Folder, nursery: Nursery) -> None:
    process = PackProcess(folder, 2, "a", (), nursery)
    assert child(process).pid is not None
    nursery._process.kill()
    until(lambda: not (nursery.listen() or nursery.alive))
    assert not process.ended
    process.ask_to_stop()
    until(lambda: process.ended)


def test_without_a_nursery_it_starts_cold(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECOND_THREAD", "1")  # a child would lose it, so nothing is forked
    nursery = Nursery(("-c", SMALL))
    process = PackProcess(folder, 0, "a", (), nursery)
    until(lambda: not (nursery.listen() or nursery.alive))
    assert nursery._process.wait() == 1
    cold: list[bool] = []
    monkeypatch.setattr(PackProcess, "_start_cold", lambda self: cold.append(True) or Ended())
    assert process.ended
    assert cold == [True]
    nursery.close()


class Ended:
    """What has ended."""

    def poll(self) -> int:
        return 0


@pytest.mark.slow
def test_a_queue_starts_its_packs_warm_with_the_same_numbers(digits: Path, tmp_path: Path) -> None:
    """The second pack is forked; alone it starts cold; and its weights are the same bits."""
    teacher, student = digits_plan(digits, ("column=wrn_16_2-resnet8", "row=KD"), sets=SHORT).runs
    assert submit(digits, tmp_path, "--wait").returncode == 0
    rundir = RunDir(tmp_path, student.key)
    warm = rundir.weights.read_bytes()
    for path in rundir.path.iterdir():
        path.unlink()
    rundir.path.rmdir()
    assert submit(digits, tmp_path, "--wait").returncode == 0
    assert rundir.weights.read_bytes() == warm
    assert RunDir(tmp_path, teacher.key).result.exists()
