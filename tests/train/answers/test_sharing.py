"""Several processes keep what a teacher answered: each question is asked once among them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.operate.clean import clean
from benchmark.run.identity import Run
from benchmark.train.claims import Claims
from tests.helpers import digits_plan, numbers, train
from tests.train.answers.asking import EPOCHS, LOGITS, SIZE, Asked, distinct, students
from tests.train.locker import Locker
from tests.train.mortal import Undertaker


@pytest.mark.slow
def test_locks_that_are_refused_change_nothing(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: Asked,
) -> None:
    reference, runs = alone
    (run,) = students(runs, 0)

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refused)
    train([run], digits, runs_dir)
    assert numbers(runs_dir, run) == numbers(reference, run)
    assert asked.images == distinct(run, digits)


@pytest.mark.slow
def test_a_process_that_died_asking_is_not_waited_for(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: Asked,
) -> None:
    """Another process holds all rows, and is killed when it is first waited for."""
    reference, runs = alone
    (run,) = students(runs, 0)
    others: list[Locker] = []
    make, waits = Claims.__init__, []

    def after_another(self: Claims, folder: Path) -> None:
        make(self, folder)
        others.append(Locker(folder / "claims", 0, 0))

    def waited(seconds: float) -> None:
        waits.append(seconds)
        others[0].kill()

    monkeypatch.setattr(Claims, "__init__", after_another)
    monkeypatch.setattr("benchmark.train.claims.time.sleep", waited)
    try:
        train([run], digits, runs_dir)
    finally:
        others[0].kill()
    assert len(waits) == len(others) == 1
    assert numbers(runs_dir, run) == numbers(reference, run)
    # The proof showed a batch whose rows the other one held, and kept what it was answered.
    assert asked.images == distinct(run, digits) - SIZE


@pytest.fixture(scope="module")
def undertaker() -> Iterator[Undertaker]:
    found = Undertaker()
    yield found
    found.close()


@pytest.mark.slow
def test_killed_while_it_fills(
    alone: tuple[Path, list[Run]], runs_dir: Path, digits: Path, undertaker: Undertaker
) -> None:
    """20 times, at random: the bits stay."""
    reference, runs = alone
    both = students(runs)
    chance = random.Random(0)
    for _ in range(20):
        ids = [undertaker.start([run], digits, runs_dir) for run in both[:1]]
        time.sleep(chance.uniform(0.05, 0.4))
        for number in ids:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(number, signal.SIGKILL)
        undertaker.wait()
        if (runs_dir / both[0].key / "result.json").exists():
            assert numbers(runs_dir, both[0]) == numbers(reference, both[0])
            (runs_dir / both[0].key).rename(runs_dir / f".done{chance.random()}")
    for run in both:
        train([run], digits, runs_dir)
        assert numbers(runs_dir, run) == numbers(reference, run)


@pytest.fixture(scope="module")
def other(undertaker: Undertaker) -> Iterator[Undertaker]:
    found = Undertaker()
    yield found
    found.close()


@pytest.fixture(scope="module")
def twins(digits: Path, alone: tuple[Path, list[Run]]) -> list[Run]:
    """Two students of one teacher and seed, which are shown the same, trained without a store."""
    plan = digits_plan(digits, [*LOGITS, "row=DKD"], sets=EPOCHS)
    (run,) = students(list(plan.runs), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_TEACHER_ANSWERS", "off")
        train([run], digits, alone[0])
    return [*students(alone[1], 0), run]


def counted(runs_dir: Path) -> list[int]:
    return [int(path.read_text()) for path in runs_dir.glob("asked-*")]


@pytest.mark.slow
@pytest.mark.parametrize("no_locks", [False, True])
def test_two_processes_at_once(
    alone: tuple[Path, list[Run]],
    twins: list[Run],
    runs_dir: Path,
    digits: Path,
    undertaker: Undertaker,
    other: Undertaker,
    no_locks: bool,
) -> None:
    """They ask among them what one would; without locks no more than each would alone."""
    expected = distinct(twins[0], digits)
    for turn in range(1 if no_locks else 2):
        for one, run in zip((undertaker, other), twins, strict=True):
            one.start([run], digits, runs_dir, no_locks=no_locks)
        for one in (undertaker, other):
            assert one.wait() == {"signal": None, "code": 0}
        by_each = counted(runs_dir)
        assert len(by_each) == 2
        if no_locks:
            assert expected <= sum(by_each) <= 2 * expected
        else:
            assert sum(by_each) == expected
        for run in twins:
            assert numbers(runs_dir, run) == numbers(alone[0], run)
        clean(runs_dir, None, answers=True)
        for path in [*runs_dir.glob("asked-*"), *(runs_dir / run.key for run in twins)]:
            path.rename(runs_dir / f".{turn}-{path.name}")


@pytest.mark.slow
@pytest.mark.parametrize("passes", [0, 12])
def test_one_of_two_is_killed_while_it_asks(
    alone: tuple[Path, list[Run]],
    twins: list[Run],
    runs_dir: Path,
    digits: Path,
    undertaker: Undertaker,
    other: Undertaker,
    passes: int,
) -> None:
    """It holds claims, in a proof or after it; the other one goes on, and so does its next try."""
    first = undertaker.start(twins[:1], digits, runs_dir, stop_asking=passes)
    undertaker.until_stopped(first)
    other.start(twins[1:], digits, runs_dir)
    time.sleep(1)  # so that it has asked what is free, and waits for the rest
    os.kill(first, signal.SIGKILL)
    assert undertaker.wait()["signal"] == signal.SIGKILL
    assert other.wait() == {"signal": None, "code": 0}
    train(twins[:1], digits, runs_dir)
    for run in twins:
        assert numbers(runs_dir, run) == numbers(alone[0], run)
