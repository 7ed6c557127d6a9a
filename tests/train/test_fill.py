"""A job that asks a teacher beforehand asks each question once, and students then none."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.planning.kept_answers import fill_pack, shared_questions
from benchmark.planning.packs import Pack, make_packs
from benchmark.run.answers import answer_files, answers_root, used
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile, read_pack
from benchmark.run.state import RunState
from benchmark.submission.task import train_here
from benchmark.train.answer_file import AnswerFile
from benchmark.train.answer_store import AnswerStore
from benchmark.train.answers import Answers
from benchmark.train.asked_pictures import pictures_of
from benchmark.train.network import Network
from tests.helpers import digits_plan, numbers, train
from tests.train.mortal import Undertaker

TABLE = """
schema: 1
name: fixed
source: {paper: "none"}
dataset: digits
recipe: digits_60
protocol: {report: last}
teacher: {from: train, seed: fixed}
seeds: [0, 1]
columns: [{teacher: wrn_16_2, student: resnet8}]
rows:
  - {name: KD, methods: [kd]}
  - {name: RKD, methods: [rkd]}
"""
SHORT = ("recipe.epochs=4", "recipe.eval_every=4", "recipe.schedule.milestones=[3]")


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Pack]]:
    """One teacher and two seeds of two students, trained without kept answers."""
    place = tmp_path_factory.mktemp("fixed")
    (place / "fixed.yaml").write_text(TABLE)
    plan = digits_plan(digits, seeds="0-1", sets=SHORT, table=str(place / "fixed.yaml"))
    packs = make_packs("fixed", plan.runs, [run.key for run in plan.teachers])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_TEACHER_ANSWERS", "off")
        for pack in packs:
            assert set(train(pack.runs, digits, place).endings.values()) == {"done"}
    return place, packs


@pytest.fixture
def filling(trained: tuple[Path, list[Pack]], tmp_path: Path, digits: Path) -> PackFile:
    """What the job is given, in a runs directory with the teacher alone."""
    place, packs = trained
    (teacher,) = packs[0].runs
    (tmp_path / teacher.key).symlink_to(place / teacher.key)
    (questions,) = shared_questions(packs, digits)
    assert questions.enough
    file = fill_pack(questions).file(tmp_path, digits)
    return read_pack(file.text(), "as it is sent")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Answers]:
    """Everything that asks a teacher, each with its count."""
    found: list[Answers] = []
    make = Answers.__init__

    def noted(self: Answers, *arguments: object, **named: object) -> None:
        make(self, *arguments, **named)  # type: ignore[arg-type]
        found.append(self)

    monkeypatch.setattr(Answers, "__init__", noted)
    return found


def questions_of(pack: PackFile) -> int:
    return len(pictures_of(pack.runs, 100))


def students(packs: list[Pack]) -> list[Run]:
    return [run for pack in packs for run in pack.runs if run.teacher]


def check(runs: list[Run], runs_dir: Path, digits: Path, place: Path) -> None:
    for run in runs:
        train([run], digits, runs_dir)
        assert numbers(runs_dir, run) == numbers(place, run)


@pytest.mark.slow
def test_students_ask_nothing_any_more(
    trained: tuple[Path, list[Pack]], filling: PackFile, digits: Path, asked: list[Answers]
) -> None:
    place, packs = trained
    assert train_here(filling).exit_code == 0
    assert [found.asked for found in asked] == [questions_of(filling)]
    shown = sum(4 * 100 for _ in packs[1:])
    assert 0 < questions_of(filling) < 0.9 * shown
    for pack in packs[1:]:
        train(pack.runs, digits, filling.runs_dir)
        for run in pack.runs:
            assert numbers(filling.runs_dir, run) == numbers(place, run)
    assert [found.asked for found in asked[1:]] == [0, 0]
    # Nothing is left to ask.
    assert train_here(filling).exit_code == 0
    assert asked[-1].asked == asked[-1].probed == 0


@pytest.mark.slow
def test_packs_and_seeds_ask_each_question_once_among_them(
    trained: tuple[Path, list[Pack]], filling: PackFile, digits: Path, asked: list[Answers]
) -> None:
    _, packs = trained
    for pack in packs[1:]:
        train(pack.runs, digits, filling.runs_dir)
    assert sum(found.asked for found in asked) == questions_of(filling)
    run = packs[1].runs[0]  # in a pack of its own, now
    (filling.runs_dir / run.key).rename(filling.runs_dir / ".before")
    train([run], digits, filling.runs_dir)
    assert sum(found.asked for found in asked) == questions_of(filling)


@pytest.mark.slow
def test_what_was_kept_before_is_not_asked_again(
    trained: tuple[Path, list[Pack]], filling: PackFile, digits: Path, asked: list[Answers]
) -> None:
    _, packs = trained
    train(packs[1].runs, digits, filling.runs_dir)
    calls = {"n": 0}

    def stop() -> str | None:
        calls["n"] += 1
        return "asked to" if calls["n"] == 2 else None

    outcome = train_here(filling, stop)
    assert set(outcome.endings.values()) == {RunState.STOPPED}
    assert outcome.interrupted
    assert outcome.advanced
    assert 0 < asked[1].asked < questions_of(filling) - asked[0].asked
    assert train_here(filling).exit_code == 0
    assert sum(found.asked for found in asked) == questions_of(filling)


@pytest.mark.parametrize("left", [1, 5])
def test_a_few_that_are_missing(filling: PackFile, asked: list[Answers], left: int) -> None:
    assert train_here(filling).exit_code == 0
    wanted = pictures_of(filling.runs, 100)
    path = next(p for p in answer_files(answers_root(filling.runs_dir)) if "logits" in p.name)
    with path.open("r+b") as file:
        for row in wanted[:left].tolist():
            file.seek((8 + 4 * 10) * row)  # ten float32 logits behind a checksum
            file.write(b"x")
    assert train_here(filling).exit_code == 0
    assert [found.asked for found in asked] == [len(wanted), left]
    assert train_here(filling).exit_code == 0
    assert asked[-1].asked == 0


def test_more_than_may_be_kept_is_refused_before_it_is_asked(
    filling: PackFile, asked: list[Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "8K")
    with pytest.raises(UserError, match=r"take \d+.\d kB more and 0 B are .* allows 8.2 kB in all"):
        train_here(filling)
    assert asked[0].asked == asked[0].probed == 0
    assert used(answers_root(filling.runs_dir)) == 0
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "off")
    with pytest.raises(UserError, match="lets none be kept"):
        train_here(filling)


def test_a_disk_without_room_is_left_alone(
    filling: PackFile, asked: list[Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.statvfs

    def nearly_full(path: Path) -> os.statvfs_result:
        found = list(look(path))
        found[4] = int(0.05 * found[2]) + 3  # blocks that are free for users: of those, three
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    with pytest.raises(UserError, match=r"more and .* has 1\d.\d kB for them \(5% of the disk"):
        train_here(filling)
    assert asked[0].asked == 0
    assert used(answers_root(filling.runs_dir)) == 0


def test_a_disk_that_takes_no_file_ends_it(
    filling: PackFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AnswerStore, "part", full)
    with pytest.raises(UserError, match="cannot be kept: No space left on device"):
        train_here(filling)


def test_bits_that_depend_on_the_batch_end_it(
    filling: PackFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Network.features

    def other(self: Network, images: object) -> object:
        found = features(self, images)  # type: ignore[arg-type]
        return found._replace(logits=found.logits + 1e-6 * len(found.logits))

    monkeypatch.setattr(Network, "features", other)
    with pytest.raises(UserError, match="depend on the batch"):
        train_here(filling)
    assert used(answers_root(filling.runs_dir)) == 0


def kept_rows(pack: PackFile) -> int:
    """How many of the answers that a pack needs are there, whole."""
    wanted = pictures_of(pack.runs, 100)
    paths = list(answer_files(answers_root(pack.runs_dir)))
    there = np.full(len(wanted), len(paths) == 2)  # logits and pooled vectors
    for path in paths:
        width = 4 * int(path.stem.rpartition("-")[2])
        file = AnswerFile(path, width, f"{path.parent.name}/{path.name}")
        there &= file.read(wanted)[1]
        file.close()
    return int(there.sum())


@pytest.fixture(scope="module")
def undertaker() -> Iterator[Undertaker]:
    found = Undertaker()
    yield found
    found.close()


@pytest.mark.slow
def test_killed_at_random_while_it_fills(
    trained: tuple[Path, list[Pack]],
    filling: PackFile,
    digits: Path,
    undertaker: Undertaker,
    asked: list[Answers],
) -> None:
    """20 times: no row is wrong, and what is kept is not asked again."""
    place, packs = trained
    chance = random.Random(0)
    killed = 0
    for turn in range(20):
        number = undertaker.send(filling)
        time.sleep(chance.uniform(0.0, 0.5))
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            os.kill(number, signal.SIGKILL)
        killed += undertaker.wait()["signal"] == signal.SIGKILL
        if turn % 5 == 2:  # and begin anew at times
            for path in answer_files(answers_root(filling.runs_dir)):
                path.unlink()
    assert killed
    kept = kept_rows(filling)
    assert train_here(filling).exit_code == 0
    assert asked[0].asked == questions_of(filling) - kept
    check(students(packs), filling.runs_dir, digits, place)
    assert [found.asked for found in asked[1:]] == [0, 0, 0, 0]


@pytest.mark.slow
def test_two_processes_at_once(
    trained: tuple[Path, list[Pack]],
    filling: PackFile,
    digits: Path,
    undertaker: Undertaker,
    asked: list[Answers],
) -> None:
    """The bits stay, and both together ask each question once, also at one moment."""
    place, packs = trained
    other = Undertaker()
    try:
        for one, pack in zip((undertaker, other), packs[1:], strict=True):
            one.start(pack.runs, digits, filling.runs_dir)
        for one in (undertaker, other):
            assert one.wait() == {"signal": None, "code": 0}
    finally:
        other.close()
    for run in students(packs):
        assert numbers(filling.runs_dir, run) == numbers(place, run)
    assert kept_rows(filling) == questions_of(filling)
    files = sorted(filling.runs_dir.glob("asked-*"))
    by_each = [int(path.read_text()) for path in files]
    assert len(by_each) == 2
    assert sum(by_each) == questions_of(filling)
    assert train_here(filling).exit_code == 0
    assert asked[-1].asked == 0
