"""Nothing is written or removed through what another user put into a shared folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.files import shared_directory, write_text
from benchmark.base.inside import appending, check_own, opened, private, remove, rename, unlink
from benchmark.operate.clean import clean
from benchmark.run.directory import RunDir
from benchmark.submission.snapshot import take_snapshot
from tests.helpers import SHORT, digits_plan, train

STRANGER = 54_321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Files of the user's own that nobody may touch."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("last.pt", "records.jsonl", "notes.txt"):
        (folder / name).write_text("mine")
    return folder


def untouched(folder: Path) -> bool:
    return {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        ("last.pt", "records.jsonl", "notes.txt"), "mine"
    )


def test_nothing_is_removed_through_a_link(tmp_path: Path, elsewhere: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    (root / "run").symlink_to(elsewhere)
    with pytest.raises(UserError, match="run is a link: nothing is done through it"):
        remove(root, root / "run" / "last.pt")
    (root / "own").mkdir()
    (root / "own" / "inner").symlink_to(elsewhere)
    (root / "own" / "last.pt").symlink_to(elsewhere / "last.pt")
    remove(root, root / "own" / "last.pt")  # the link itself
    remove(root, root / "own" / "gone")
    remove(root, root / "own")
    remove(root, root / "run")
    assert list(root.iterdir()) == []
    assert untouched(elsewhere)


def test_the_shared_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "disk" / "run" / "last.pt").touch()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    remove(tmp_path / "runs", tmp_path / "runs" / "run" / "last.pt")
    with opened(tmp_path / "runs", "run") as folder:
        assert os.listdir(folder) == []


def test_nothing_is_appended_through_a_link(tmp_path: Path, elsewhere: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.symlink_to(elsewhere / "records.jsonl")
    with pytest.raises(OSError, match="a link: nothing is written through it"), appending(path):
        pass
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"), appending(path):
        pass
    assert untouched(elsewhere)


@as_root
def test_what_is_a_strangers_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    for path in (tmp_path / "run", tmp_path / "run" / "last.pt"):
        os.chown(path, STRANGER, STRANGER)
    with pytest.raises(UserError, match=f"last.pt belongs to user {STRANGER}"):
        remove(tmp_path, tmp_path / "run" / "last.pt")
    assert (tmp_path / "run" / "last.pt").exists()


@as_root
def test_no_run_begins_in_what_a_stranger_put_there(
    tmp_path: Path, digits: Path, elsewhere: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    linked, owned = digits_plan(digits, ["row=Student"], sets=SHORT).runs
    RunDir(runs, linked.key).path.symlink_to(elsewhere)
    os.lchown(RunDir(runs, linked.key).path, STRANGER, STRANGER)
    RunDir(runs, owned.key).path.mkdir()
    os.chown(RunDir(runs, owned.key).path, STRANGER, STRANGER)
    for run, message in ((linked, "is a link that user 54321 made"), (owned, "belongs to user")):
        outcome = train([run], digits, runs)
        assert outcome.endings == {run.key: "failed"}
        assert message in outcome.reasons[run.key]
    assert untouched(elsewhere)


def test_records_are_not_written_through_a_link(
    tmp_path: Path, digits: Path, elsewhere: Path
) -> None:
    run, *_ = digits_plan(digits, ["row=Student"], sets=SHORT).runs
    rundir = RunDir(tmp_path / "runs", run.key)
    rundir.create(run)
    rundir.records.symlink_to(elsewhere / "records.jsonl")
    outcome = train([run], digits, rundir.root)
    assert outcome.endings == {run.key: "failed"}
    assert "nothing is written through it" in outcome.reasons[run.key]
    assert untouched(elsewhere)


def test_clean_removes_nothing_through_a_link(
    tmp_path: Path, digits: Path, elsewhere: Path
) -> None:
    run, *_ = digits_plan(digits, ["row=Student"], sets=SHORT).runs
    assert train([run], digits, tmp_path / "disk").endings == {run.key: "done"}
    there = RunDir(tmp_path / "disk", run.key)
    there.checkpoint.write_text("mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / run.key).symlink_to(there.path)
    cleaned = clean(tmp_path / "runs", None)
    assert any("is a link: nothing is done through it" in text for text in cleaned.problems)
    assert there.checkpoint.exists()


@as_root
def test_code_is_not_copied_into_a_strangers_folder(tmp_path: Path, elsewhere: Path) -> None:
    code = tmp_path / "code"
    (code / "benchmark").mkdir(parents=True)
    (code / "benchmark" / "x.py").write_text("x = 1")
    store = tmp_path / "runs" / ".code" / "me"
    store.parent.mkdir(parents=True)
    store.symlink_to(elsewhere)
    os.lchown(store, STRANGER, STRANGER)
    with pytest.raises(UserError, match="is a link that user 54321 made"):
        take_snapshot(store, code)
    assert untouched(elsewhere)
    store.unlink()
    store.mkdir()
    os.chown(store, STRANGER, STRANGER)
    with pytest.raises(UserError, match="belongs to user 54321"):
        take_snapshot(store, code)
    check_own(code)


@as_root
def test_a_folder_that_becomes_a_strangers_link_is_written_through_by_nothing(
    tmp_path: Path, elsewhere: Path
) -> None:
    place = tmp_path / "run"
    place.symlink_to(elsewhere)
    write_text(place / "notes.txt", "mine")  # a link of one's own
    os.lchown(place, STRANGER, STRANGER)
    for act in (
        lambda: write_text(place / "last.pt", "theirs"),
        lambda: unlink(place / "last.pt"),
        lambda: rename(place / "last.pt", "notes.txt"),
        lambda: appending(place / "records.jsonl").__enter__(),
        lambda: shared_directory(place),
    ):
        with pytest.raises(UserError, match=f"run is a link that user {STRANGER} made"):
            act()
    assert untouched(elsewhere)


@as_root
def test_a_running_training_writes_through_no_link(
    tmp_path: Path, digits: Path, elsewhere: Path
) -> None:
    """Put there while it trains, as whoever may write a shared folder without sticky bit can."""
    run, *_ = digits_plan(digits, ["row=Student"], sets=SHORT).runs
    rundir = RunDir(tmp_path / "runs", run.key)
    (elsewhere / ".profile.tmp").write_text("mine")
    moved = []

    def swap() -> None:
        if not moved and rundir.provenance.exists():
            moved.append(rundir.path.rename(tmp_path / "moved"))
            rundir.path.symlink_to(elsewhere)
            os.lchown(rundir.path, STRANGER, STRANGER)

    outcome = train([run], digits, rundir.root, stop=swap)
    assert moved
    assert outcome.endings != {run.key: "done"}
    (elsewhere / ".profile.tmp").unlink()
    assert untouched(elsewhere)


@as_root
def test_only_ones_own_folder_is_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with private(tmp_path):
        pass
    tmp_path.chmod(0o770)
    with pytest.raises(UserError, match="others than its owner may write"), private(tmp_path):
        pass
    tmp_path.chmod(0o700)
    os.chown(tmp_path, STRANGER, STRANGER)
    with pytest.raises(UserError, match=f"belongs to user {STRANGER}"), private(tmp_path):
        pass
    os.chown(tmp_path, 0, 0)


def test_folders_that_a_group_shares_are_sticky(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    shared_directory(tmp_path / ".submissions")
    assert (tmp_path / ".submissions").stat().st_mode & 0o7777 == 0o3775
    tmp_path.chmod(0o700)
    shared_directory(tmp_path / ".code")
    assert (tmp_path / ".code").stat().st_mode & 0o7777 == 0o700
