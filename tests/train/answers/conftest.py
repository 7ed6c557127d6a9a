"""Runs of two seeds and a count of what their teachers are asked."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from benchmark.run.answers import answers_root as store_root
from benchmark.run.identity import Run
from benchmark.train.answers import Answers
from tests.helpers import digits_plan, train_plan
from tests.train.answers.asking import EPOCHS, KD, Asked, students


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    make = Answers.__init__

    def noted(self: Answers, *arguments: object, **named: object) -> None:
        make(self, *arguments, **named)  # type: ignore[arg-type]
        found.all.append(self)

    monkeypatch.setattr(Answers, "__init__", noted)
    return found


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The calls that claim rows or give them back."""
    found: list[int] = []
    lock = fcntl.lockf

    def noted(descriptor: int, kind: int, *where: int) -> None:
        found.append(kind)
        lock(descriptor, kind, *where)

    monkeypatch.setattr(fcntl, "lockf", noted)
    return found


@pytest.fixture(scope="module")
def alone(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    """KD of two seeds, trained without a store."""
    runs_dir = tmp_path_factory.mktemp("alone")
    plan = digits_plan(digits, KD, seeds="0-1", sets=EPOCHS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_TEACHER_ANSWERS", "off")
        train_plan(plan, digits, runs_dir, size=1)
    assert not store_root(runs_dir).exists()
    return runs_dir, list(plan.runs)


@pytest.fixture
def runs_dir(alone: tuple[Path, list[Run]], tmp_path: Path) -> Path:
    """A runs directory with the teachers alone."""
    for run in students(alone[1]):
        assert run.teacher is not None
        (tmp_path / run.teacher.key).symlink_to(alone[0] / run.teacher.key)
    return tmp_path
