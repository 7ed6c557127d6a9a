"""Two submissions at one moment, and submissions that come to nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.packs import Pack
from benchmark.submission import sending as module
from benchmark.submission.sending import leaving_nothing, sending, sent_meanwhile
from benchmark.submission.sent import sent_arrays
from benchmark.submission.snapshot import code_store, take_snapshot
from benchmark.submission.submission import new_submission
from tests import submitted
from tests.helpers import SHORT, digits_plan
from tests.two_users import ALICE, BOB, a_place, acting_as, as_root


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


@as_root
@pytest.mark.parametrize("kind", ["a link", "a folder"])
def test_what_another_user_put_in_the_place_of_the_mark_is_not_written_in(kind: str) -> None:
    with a_place() as place:
        own = place / "own"
        own.mkdir()
        os.chown(own, ALICE, ALICE)
        submissions = place / ".submissions"
        submissions.mkdir()
        submissions.chmod(0o1777)
        with acting_as(BOB):
            mark = submissions / f".sending-{ALICE}"
            mark.symlink_to(own) if kind == "a link" else mark.mkdir(mode=0o777)
        with acting_as(ALICE), pytest.raises(UserError, match=str(BOB)), sending(place):
            pass
        assert list(own.iterdir()) == []
        assert list(mark.iterdir()) == []


@as_root
def test_no_code_is_written_through_another_users_link() -> None:
    with a_place() as place:
        own = place / "own"
        (own / str(ALICE)).mkdir(parents=True)
        for folder in (own, own / str(ALICE)):
            os.chown(folder, ALICE, ALICE)
        project = place / "project" / "benchmark"
        project.mkdir(parents=True)
        (project / "__init__.py").touch()
        (place / ".code").symlink_to(own)
        os.chown(place / ".code", BOB, BOB, follow_symlinks=False)
        with acting_as(ALICE), pytest.raises(UserError, match=f"a link that user {BOB} made"):
            take_snapshot(place / ".code" / str(ALICE), project.parent)
        assert list((own / str(ALICE)).iterdir()) == []
