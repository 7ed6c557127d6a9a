"""What a teacher answered before is the same bits, and is asked for no second time."""

from __future__ import annotations

import errno
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.models.features import Features
from benchmark.monitor.doctor import examine
from benchmark.operate.clean import clean
from benchmark.run.answers import answer_files, limit, used
from benchmark.run.answers import answers_root as store_root
from benchmark.run.identity import Run
from benchmark.train import answers
from benchmark.train.answer_file import AnswerFile
from benchmark.train.answers import SMALLEST, Answers
from benchmark.train.network import Network
from tests.helpers import digits_plan, numbers, train, train_plan
from tests.train.answers.asking import (
    BATCHES,
    EPOCHS,
    KD,
    LOGITS,
    SIZE,
    Asked,
    distinct,
    shown,
    students,
)


def test_each_question_is_asked_once(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    asked: Asked,
    locks: list[int],
) -> None:
    reference, runs = alone
    (run,) = students(runs, 0)
    assert train([run], digits, runs_dir).endings == {run.key: "done"}
    assert numbers(runs_dir, run) == numbers(reference, run)
    expected = distinct(run, digits)
    assert asked.images == expected < run.recipe.epochs * 100
    # A lock for each question at most, and one call that gives back those of a batch.
    assert len(locks) <= expected + run.recipe.epochs * BATCHES
    locks.clear()
    # Again, all of it from the store.
    (runs_dir / run.key).rename(runs_dir / ".before")
    train([run], digits, runs_dir)
    assert numbers(runs_dir, run) == numbers(reference, run)
    assert asked.images == expected
    assert len(locks) <= SIZE + 1  # those of the proof


@pytest.mark.slow
def test_methods_that_read_pooled_vectors_and_maps_share_it(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    plan = digits_plan(digits, LOGITS, sets=EPOCHS)
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "off")
    train_plan(plan, digits, tmp_path / "off", size=1)
    monkeypatch.delenv("BENCH_TEACHER_ANSWERS")
    train_plan(plan, digits, tmp_path / "on", size=1)
    names = {path.name.split("-")[0] for path in answer_files(store_root(tmp_path / "on"))}
    assert names == {"logits", "pooled"}
    for run in plan.runs:
        assert numbers(tmp_path / "on", run) == numbers(tmp_path / "off", run), run.key


def test_an_interrupted_run_asks_for_nothing_twice(
    alone: tuple[Path, list[Run]], runs_dir: Path, digits: Path, asked: Asked
) -> None:
    reference, runs = alone
    (run,) = students(runs, 1)
    calls = {"n": 0}

    def stop() -> str | None:
        calls["n"] += 1
        return "asked to" if calls["n"] == 17 else None

    assert train([run], digits, runs_dir, stop=stop).interrupted
    assert train([run], digits, runs_dir).endings == {run.key: "done"}
    assert numbers(runs_dir, run) == numbers(reference, run)
    assert asked.images == distinct(run, digits)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["altered", "truncated", "empty", "swapped"])
def test_damaged_rows_are_asked_for_again(
    alone: tuple[Path, list[Run]], runs_dir: Path, digits: Path, damage: str
) -> None:
    reference, runs = alone
    first, second = students(runs)
    train([first], digits, runs_dir)
    for path in answer_files(store_root(runs_dir)):
        content = bytearray(path.read_bytes())
        if damage == "altered":
            for place in range(50, len(content), 97):
                content[place] ^= 1
        elif damage == "truncated":
            del content[len(content) // 2 - 3 :]
        elif damage == "empty":
            content.clear()
        else:
            row = 8 * (1 + 5)  # ten float32 logits behind a checksum
            content[:row], content[row : 2 * row] = content[row : 2 * row], content[:row]
        path.write_bytes(content)
    train([second], digits, runs_dir)
    again = runs_dir / first.key
    again.rename(runs_dir / ".first")
    train([first], digits, runs_dir)
    for run in (first, second):
        assert numbers(runs_dir, run) == numbers(reference, run)


@pytest.mark.slow
def test_a_read_only_store_is_read(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: Asked,
) -> None:
    reference, runs = alone
    first, second = students(runs)
    train([first], digits, runs_dir)
    (runs_dir / first.key).rename(runs_dir / ".before")
    before, size = asked.images, used(store_root(runs_dir))
    opened = os.open

    def read_only(path: object, flags: int, *more: object, **named: object) -> int:
        if str(path).endswith(".rows") and flags & os.O_RDWR:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only)
    train([first], digits, runs_dir)
    assert asked.images == before
    train([second], digits, runs_dir)  # of whose teacher nothing is there
    for run in (first, second):
        assert numbers(runs_dir, run) == numbers(reference, run)
    assert used(store_root(runs_dir)) == size


@pytest.mark.slow
def test_a_disk_that_takes_nothing_more(
    alone: tuple[Path, list[Run]], runs_dir: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, runs = alone
    (run,) = students(runs, 0)
    monkeypatch.setattr(AnswerFile, "write", _refuse)
    assert train([run], digits, runs_dir).endings == {run.key: "done"}
    assert numbers(runs_dir, run) == numbers(reference, run)


def _refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.slow
def test_no_more_is_kept_than_may_be(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: pytest.LogCaptureFixture,
) -> None:
    reference, runs = alone
    (run,) = students(runs, 0)
    monkeypatch.setattr("benchmark.train.answer_store._LOOK_EVERY", 1)
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "8K")
    train([run], digits, runs_dir)
    assert numbers(runs_dir, run) == numbers(reference, run)
    assert 0 < used(store_root(runs_dir)) <= 8 * 2**10 + 20 * 2**12
    assert told.text.count("no more are kept") == 1


def test_bits_that_depend_on_the_batch_are_not_kept(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: pytest.LogCaptureFixture,
) -> None:
    _, runs = alone
    (run,) = students(runs, 0)
    features = Network.features

    def other(self: Network, images: torch.Tensor) -> object:
        found = features(self, images)
        return found._replace(logits=found.logits + 1e-6 * len(images))

    monkeypatch.setattr(Network, "features", other)
    train([run], digits, runs_dir)
    assert told.text.count("depend on the batch") == 1
    assert used(store_root(runs_dir)) == 0


@pytest.mark.slow
def test_a_size_that_differs_from_what_all_are_compared_with_is_not_kept(
    runs_dir: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: pytest.LogCaptureFixture,
) -> None:
    """Alike among themselves is not enough: runs of other sizes would read these rows."""
    plan = digits_plan(digits, KD, sets=(*EPOCHS, "student.recipe.batch_size=12"))
    (run,) = students(list(plan.runs), 0)
    altered(monkeypatch, lambda size: size <= 12)
    train([run], digits, runs_dir)
    assert told.text.count("answers to batches of 12 are not kept") == 1
    assert used(store_root(runs_dir)) == 0


@pytest.mark.slow
def test_only_batches_of_a_size_that_differs_are_asked_every_time(
    runs_dir: Path,
    tmp_path: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: pytest.LogCaptureFixture,
    asked: Asked,
) -> None:
    plan = digits_plan(digits, KD, sets=(*EPOCHS, "student.recipe.batch_size=30"))
    (run,) = students(list(plan.runs), 0)
    shutil.copytree(runs_dir, tmp_path / "off")
    altered(monkeypatch, lambda size: size == 10)  # the last of 100 images
    train([run], digits, runs_dir)
    sizes = [len(rows) for rows in shown(run, digits)]
    whole = {row for rows in shown(run, digits) if len(rows) == 30 for row in rows}
    assert asked.images == len(whole) + sum(size for size in sizes if size == 10)
    assert told.text.count("answers to batches of 10 are not kept") == 1
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "off")
    train([run], digits, tmp_path / "off")
    assert numbers(runs_dir, run) == numbers(tmp_path / "off", run)


@pytest.mark.slow
def test_a_picture_that_a_batch_holds_twice_is_one_question(
    runs_dir: Path,
    tmp_path: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: Asked,
) -> None:
    plan = digits_plan(digits, KD, sets=(*EPOCHS, "student.recipe.repeats=5"))
    (run,) = students(list(plan.runs), 0)
    batches = shown(run, digits)
    assert any(len(set(rows)) < len(rows) for rows in batches[1:])
    shutil.copytree(runs_dir, tmp_path / "off")
    train([run], digits, runs_dir)
    assert asked.images == distinct(run, digits)
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "off")
    train([run], digits, tmp_path / "off")
    assert numbers(runs_dir, run) == numbers(tmp_path / "off", run)


def test_few_sizes_are_ever_asked_for() -> None:
    for size in (*range(SMALLEST, 40), 48, 64, 96, 100, 128, 256, 1000):
        found = [answers._padded(missing, size) for missing in range(1, size + 1)]
        assert all(missing <= padded <= size for missing, padded in enumerate(found, 1))
        assert found == sorted(found)
        assert len(set(found)) <= 6
        assert found[0] <= size / 8 + 4
        assert all(padded % 4 == 0 for padded in found if padded < size)


def altered(monkeypatch: pytest.MonkeyPatch, wanted: Callable[[int], bool]) -> None:
    """Let networks answer batches of some sizes otherwise."""
    features = Network.features

    def other(self: Network, images: torch.Tensor) -> Features:
        found = features(self, images)
        return found._replace(logits=found.logits + 1e-6 * wanted(len(images)))

    monkeypatch.setattr(Network, "features", other)


@pytest.mark.slow
def test_it_takes_no_memory_for_the_rows_nor_for_maps(
    alone: tuple[Path, list[Run]], runs_dir: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page of a file of rows is the process', and no pass of a proof holds another's maps."""
    _, runs = alone
    (run,) = students(runs, 0)
    train([run], digits, runs_dir)  # which leaves rows to read
    (runs_dir / run.key).rename(runs_dir / ".before")
    held: list[weakref.ref[torch.Tensor]] = []
    mapped: list[str] = []
    again = Answers._again

    def noted(self: Answers, images: torch.Tensor) -> Features:
        assert not [reference for reference in held if reference() is not None]
        maps = Path("/proc/self/smaps").read_text(encoding="utf-8")
        mapped.extend(line for line in maps.splitlines() if line.endswith(".rows"))
        found = again(self, images)
        held.extend(weakref.ref(stage) for stage in found.stages)
        return found

    monkeypatch.setattr(Answers, "_again", noted)
    assert train([run], digits, runs_dir).endings == {run.key: "done"}
    assert len(held) > 10
    assert mapped == []


@pytest.mark.slow
@pytest.mark.parametrize("change", ["teacher", "cpu", "torch"])
def test_another_teacher_or_machine_has_rows_of_its_own(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    asked: Asked,
) -> None:
    reference, runs = alone
    (run,) = students(runs, 0)
    machine = answers.machine()
    if change == "teacher":
        train(students(runs, 1), digits, runs_dir)  # whose seed has a teacher of its own
    else:
        with monkeypatch.context() as patch:
            patch.setattr(answers, "machine", lambda: {**machine, change: "another"})
            train([run], digits, runs_dir)
        (runs_dir / run.key).rename(runs_dir / ".elsewhere")
    before = asked.images
    train([run], digits, runs_dir)
    assert asked.images - before == distinct(run, digits)
    assert numbers(runs_dir, run) == numbers(reference, run)
    assert len({path.parent for path in answer_files(store_root(runs_dir))}) == 2


@pytest.mark.slow
def test_links_and_others_folders_are_not_followed(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    told: pytest.LogCaptureFixture,
) -> None:
    reference, runs = alone
    (run,) = students(runs, 0)
    elsewhere = runs_dir / "elsewhere"
    elsewhere.mkdir()
    store_root(runs_dir).parent.mkdir()
    store_root(runs_dir).symlink_to(elsewhere)
    train([run], digits, runs_dir)
    assert "not a folder of your own" in told.text
    assert not list(elsewhere.iterdir())
    assert numbers(runs_dir, run) == numbers(reference, run)


def test_rows_prove_themselves(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "rows", 12, "a")
    rows = np.array([5, 0, 900], np.int64)
    content = np.arange(36, dtype=np.uint8).reshape(3, 12)
    file.write(rows, content)
    found, there = file.read(np.array([900, 1, 5, 0, 10**6], np.int64))
    assert there.tolist() == [True, False, True, True, False]
    assert (found[[0, 2, 3]] == content[[2, 0, 1]]).all()
    assert not AnswerFile(tmp_path / "rows", 12, "b").read(rows)[1].any()
    assert not file.read(np.arange(1, 5, dtype=np.int64))[1].any()


@pytest.mark.parametrize(("text", "size"), [("off", 0), ("0", 0), ("3G", 3 * 2**30), ("17", 17)])
def test_limits(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", text)
    assert limit() == size


def test_a_size_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_TEACHER_ANSWERS", "much")
    with pytest.raises(UserError, match="'much', not a size such as 16G, or off"):
        limit()


@pytest.mark.slow
def test_cleaning_and_doctor_know_them(
    alone: tuple[Path, list[Run]], runs_dir: Path, digits: Path
) -> None:
    (run,) = students(alone[1], 0)
    train([run], digits, runs_dir)
    root = store_root(runs_dir)
    before = used(root)
    assert before > 0
    found = next(
        item for item in examine(runs_dir, digits, measure=False) if item.what == "answers"
    )
    assert "bench clean --answers" in found.text
    assert not [item for item in clean(runs_dir, None).removed if "answers" in item.kind]
    done = clean(runs_dir, None, answers=True, dry_run=True)
    named = sum(item.size for item in done.removed if "answers" in item.kind)
    assert before <= named <= before + 16 * 2**10  # what they are, and who asks for which
    assert used(root) == before
    clean(runs_dir, None, answers=True)
    assert list(root.iterdir()) == []


@pytest.mark.slow
def test_cleaned_while_a_process_trains(
    alone: tuple[Path, list[Run]], runs_dir: Path, digits: Path
) -> None:
    reference, runs = alone
    (run,) = students(runs, 1)
    calls = {"n": 0}

    def clean_once() -> None:
        calls["n"] += 1
        if calls["n"] == 17:
            clean(runs_dir, None, answers=True)

    train([run], digits, runs_dir, stop=clean_once)
    assert calls["n"] > 17
    assert numbers(runs_dir, run) == numbers(reference, run)


def test_two_writers_at_once(tmp_path: Path) -> None:
    ours, theirs = (AnswerFile(tmp_path / "rows", 40, "a") for _ in range(2))
    content = np.random.default_rng(0).integers(0, 255, (64, 40), np.uint8)
    rows = np.arange(64, dtype=np.int64)
    ours.write(rows[:40], content[:40])
    theirs.write(rows[20:], content[20:])
    found, there = ours.read(rows)
    assert there.all()
    assert (found == content).all()
