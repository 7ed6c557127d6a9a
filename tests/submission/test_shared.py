"""Several users in one runs directory: set up once, nobody replaces what another one sent."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.pack_size import parse_pack_size
from benchmark.submission.executors import executor_for
from benchmark.submission.folder import Folder
from benchmark.submission.hand_over import Order, prepare
from benchmark.submission.shared import MODE, distrust, places, set_up
from benchmark.submission.snapshot import code_store
from benchmark.submission.submission import Queue
from benchmark.train.answer_store import AnswerStore
from tests.cli.command import bench
from tests.helpers import SHORT
from tests.two_users import ALICE, BOB, LAB, a_place, acting_as, as_root


@pytest.fixture
def runs() -> Iterator[Path]:
    with a_place() as place:
        yield place / "runs"


def modes(runs: Path) -> set[int]:
    return {stat.S_IMODE(place.stat().st_mode) for place in (runs, *places(runs))}


def test_a_directory_is_set_up_and_stays_so(runs: Path) -> None:
    (said,) = set_up(runs)
    assert said.startswith(f"{runs}: mode 3775, for the group ")
    assert modes(runs) == {0o3775}
    runs.chmod(0o700)
    list(set_up(runs))
    assert modes(runs) == {0o3775}
    assert distrust(runs) is None


def test_the_command(tmp_path: Path) -> None:
    ended = bench("init", "runs", "--runs", tmp_path / "runs")
    assert ended.code == 0
    assert "mode 3775" in ended.out
    ended = bench("init", "runs", "--runs", tmp_path / "runs", "--group", "no-such-group")
    assert ended.code == 2
    assert "there is no group 'no-such-group' on this machine" in ended.err


@as_root
def test_a_member_submits_beside_another_one_and_touches_nothing_of_theirs(runs: Path) -> None:
    list(set_up(runs))
    for place in (runs, *places(runs)):
        os.chown(place, -1, LAB)
        place.chmod(0o3775)
    folders = {}
    for user in (ALICE, BOB):
        with acting_as(user, LAB):
            folder = folders[user] = Folder(runs / ".submissions" / str(user))
            folder.create()
            code_store(runs).mkdir()
            AnswerStore(runs / ".answers" / str(user), {}, 1).close()
            assert distrust(runs) is None
    with acting_as(BOB, LAB):
        for place in (folders[ALICE].path, runs / ".submissions", runs / ".code" / str(ALICE)):
            with pytest.raises(PermissionError):
                place.rename(runs / "moved")
        for place in (folders[ALICE].path, runs / ".code" / str(ALICE)):
            with pytest.raises(PermissionError):
                (place / "x").touch()


@as_root
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_whoever_comes_first_leaves_room_for_the_others(runs: Path, umask: int) -> None:
    """Also where nobody has set the directory up, and whatever the umask of the first one."""
    runs.mkdir()
    os.chown(runs, -1, LAB)
    runs.chmod(0o2775)
    for user in (ALICE, BOB):
        with acting_as(user, LAB, umask=umask):
            folder = Folder(runs / ".submissions" / str(user))
            folder.create()
            AnswerStore(runs / ".answers" / str(user), {}, 1).close()
            assert os.umask(umask) == umask
    assert (runs / ".submissions").stat().st_mode & 0o7777 == 0o3775
    assert (runs / ".answers").stat().st_mode & 0o7777 == 0o3775


@as_root
def test_a_directory_that_others_may_write_is_said_before_anything_is_sent(
    runs: Path, digits: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.monitor.doctor._readers", list)
    runs.mkdir()
    os.chown(runs, -1, LAB)
    order = Order("digits", (), frozenset(), runs, digits, parse_pack_size("auto"))

    def said() -> list[str]:
        caplog.clear()
        with caplog.at_level("INFO"):
            prepare(order, executor_for("inline", None), Queue(), checked=True)
        return [text for text in caplog.messages if "others could replace" in text]

    assert said() == []
    runs.chmod(0o2775)
    (text,) = said()
    assert f"(the group {LAB} may write {runs}); `bench init runs`" in text
    ended = bench("doctor", "--no-speed", "--runs", runs, "--data", digits)
    assert f"note     runs         others could replace what you submit in {runs}" in ended.out
    runs.chmod(0o3775)
    assert said() == []
    (runs / ".submissions").mkdir()
    os.chown(runs / ".submissions", ALICE, LAB)
    (text,) = said()
    assert f"{runs / '.submissions'} belongs to user {ALICE}" in text
    list(set_up(runs))
    assert said() == []
    assert modes(runs) == {0o3775}


@as_root
def test_only_its_owner_sets_it_up(runs: Path) -> None:
    list(set_up(runs))
    with acting_as(ALICE), pytest.raises(UserError, match=r"belongs to .*, who alone"):
        list(set_up(runs))
    os.chown(runs, ALICE, ALICE)  # and its group
    with acting_as(ALICE):
        assert "belongs to root: let root do this" in next(set_up(runs))
    list(set_up(runs))
    assert {place.stat().st_uid for place in (runs, *places(runs))} == {ALICE}
    with acting_as(ALICE):
        list(set_up(runs))
    assert modes(runs) == {0o3775}


@as_root
@pytest.mark.slow
def test_what_one_member_trained_another_one_does_not_train_again(
    runs: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "/nonexistent")  # as users without a home
    data = runs.parent / "data"
    shutil.copytree(digits, data)
    for place, _, _ in os.walk(data):
        os.chmod(place, 0o755)
    list(set_up(runs))
    for shared in (runs, *places(runs)):
        os.chown(shared, -1, LAB)
        shared.chmod(MODE)
    only = ("--only", "row=Student", "--only", "student=resnet8", "--seeds", "0")
    sets = [word for field in SHORT for word in ("--set", field)]
    where = ("--cluster", "inline", "--data", data, "--runs", runs)
    submit = ("submit", "--table", "digits", *only, *sets, *where)
    # Another user may not read this one's Python: what is imported late is imported here.
    bench(*submit[:-1], runs.parent / "mine")
    said = {}
    for user in (ALICE, BOB):
        with acting_as(user, LAB, umask=0o002):
            ended = {words[0]: bench(*words) for words in (submit, ("clean", *where[-2:]))}
            said[user] = ended["submit"].err
            assert [end.code for end in ended.values()] == [0, 0], ended
    assert "epoch 2/2" in said[ALICE]
    assert "1 of 1 run done, 0 to train" in said[BOB]
    assert "others could replace" not in said[ALICE] + said[BOB]
    (run,) = runs.glob("digits-*")
    assert run.stat().st_uid == ALICE
