from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from benchmark.slurm import queue, queue_cache
from benchmark.slurm.commands import SlurmUnreachableError
from benchmark.slurm.queue_cache import LONGEST_PAUSE, Question


class Asked:
    """Stands for the two calls: counts them, and fails or dawdles when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        self.down = False
        self.clock = time.time()
        self.slow = 0.0
        monkeypatch.setattr(queue, "read_raw", self._read)
        monkeypatch.setattr(queue_cache.time, "time", lambda: self.clock)

    def _read(self, *question: object) -> queue.RawQueue:
        self.times += 1
        if self.down:
            raise SlurmUnreachableError("slurmctld cannot be reached")
        taken = self.clock
        self.clock += self.slow
        return queue.RawQueue("", "", taken)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Asked(monkeypatch)


QUESTION = Question(since=1e9, names=("bench-digits",))


def test_watchers_share_one_refresh(asked: Asked) -> None:
    first = queue_cache.read(QUESTION, max_age=30)
    asked.clock += 29
    # Another watcher, started within the same hour.
    second = queue_cache.read(QUESTION._replace(since=1e9 + 1), max_age=30)
    assert asked.times == 1
    assert second.snapshot.taken == first.snapshot.taken
    asked.clock += 2
    queue_cache.read(QUESTION, max_age=30)
    assert asked.times == 2
    queue_cache.read(QUESTION._replace(all_users=True), max_age=30)
    assert asked.times == 3  # another question


def test_while_slurm_is_down_the_last_answer_is_shown_and_it_is_asked_less_often(
    asked: Asked,
) -> None:
    taken = queue_cache.read(QUESTION, max_age=30).snapshot.taken
    asked.down = True
    pauses = []
    for _ in range(8):
        start = asked.clock
        while True:
            asked.clock += 10
            before = asked.times
            answer = queue_cache.read(QUESTION, max_age=30)
            if asked.times > before:
                break
        pauses.append(asked.clock - start)
        assert answer.snapshot.taken == taken
        assert answer.warning is not None
        assert "cannot be reached" in answer.warning
    assert pauses == sorted(pauses)
    assert pauses[-1] <= LONGEST_PAUSE + 10
    assert pauses[-1] >= LONGEST_PAUSE
    asked.down = False
    asked.clock += LONGEST_PAUSE
    assert queue_cache.read(QUESTION, max_age=30).warning is None


def test_with_nothing_known_the_error_is_the_answer(asked: Asked) -> None:
    asked.down = True
    with pytest.raises(SlurmUnreachableError):
        queue_cache.read(QUESTION, max_age=30)


@pytest.mark.parametrize("place", ["a file in its place", "a full disk"])
def test_without_a_place_for_it_slurm_is_asked_each_time(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "a full disk":

        def full(path: Path, data: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        monkeypatch.setattr(queue_cache, "write_json", full)
    else:
        (tmp_path / "bench").write_text("")
    for _ in range(2):
        assert queue_cache.read(QUESTION, max_age=30).warning is None
    assert asked.times == 2
    asked.down = True
    with pytest.raises(SlurmUnreachableError):
        queue_cache.read(QUESTION, max_age=30)


def test_a_slow_slurmctld_is_asked_less_often(asked: Asked) -> None:
    asked.slow = queue_cache.SLOW_SECONDS + 1
    queue_cache.read(QUESTION, max_age=30)
    asked.clock += 40
    queue_cache.read(QUESTION, max_age=30)
    assert asked.times == 1
    asked.clock += 40
    queue_cache.read(QUESTION, max_age=30)
    assert asked.times == 2


def test_watchers_do_not_march_in_step() -> None:
    pauses = {queue_cache.pause(30) for _ in range(50)}
    assert len(pauses) > 40
    assert min(pauses) >= 30
