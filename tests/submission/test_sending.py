"""Two submissions at one moment, and submissions that come to nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.packs import Pack
from benchmark.submission import sending as module
from benchmark.submission.sending import leaving_nothing, sending, sent_meanwhile
from benchmark.submission.sent import sent_arrays
from benchmark.submission.snapshot import code_store
from benchmark.submission.submission import new_submission
from tests import submitted
from tests.helpers import SHORT, digits_plan


def test_one_submission_is_sent_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    order: list[str] = []

    def other() -> None:
        with sending(tmp_path):
            order.append("second")

    with sending(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert told.messages == ["waiting for another submission of yours to be sent"]
    assert list((tmp_path / ".submissions").iterdir()) == []


def test_a_submission_that_does_not_end_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1.0)
    held = sending(tmp_path)
    with held, pytest.raises(UserError, match="does not end"), sending(tmp_path):
        pass


def test_what_another_submission_sent_meanwhile_is_not_sent_again(
    tmp_path: Path, digits: Path
) -> None:
    runs = list(digits_plan(digits, ["row=Student"], seeds="0-2", sets=SHORT).runs)[:3]
    packs = [Pack("digits", (run,)) for run in runs]
    submitted.in_slurm(tmp_path, digits, packs[:1], 95)
    keys = [run.key for run in runs]
    known = {array.folder for array in sent_arrays(tmp_path)}
    assert not sent_meanwhile(keys, tmp_path, known)
    submitted.in_slurm(tmp_path, digits, packs[1:], 96)
    assert sent_meanwhile(keys[1:], tmp_path, known)
    with pytest.raises(UserError, match="sent 2 of these 3 runs at this moment"):
        sent_meanwhile(keys, tmp_path, known)


def test_what_comes_to_nothing_leaves_nothing(
    tmp_path: Path, digits: Path, told: pytest.LogCaptureFixture
) -> None:
    runs = tmp_path / "runs"
    store = code_store(runs)
    folder = new_submission("digits", [], runs, digits).folder.path

    def send(folder: Path, copy: str, taken: bool) -> None:
        with leaving_nothing(folder, runs), sending(runs):
            (store / copy).mkdir(parents=True)
            if taken:
                folder.mkdir()
            raise UserError("no")

    for taken in (False, True):
        with pytest.raises(UserError):
            send(folder, "copy", taken)
        assert runs.exists() == taken
    # Nor does it take away what others have made.
    with pytest.raises(UserError):
        send(runs / "gone", "other", False)
    assert [path.name for path in store.iterdir()] == ["copy"]
    assert folder.exists()
