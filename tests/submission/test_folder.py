"""The folder of a submission: what is written is read back, and what an earlier version wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.submission.folder import Folder
from benchmark.submission.submission import new_submission
from tests.helpers import digits_plan


@pytest.fixture
def runs(digits: Path) -> list[Run]:
    return list(digits_plan(digits, ["row=Student"], seeds="0-1").runs)


def test_a_task_reads_its_own_pack(digits: Path, tmp_path: Path, runs: list[Run]) -> None:
    folder = Folder(tmp_path / "runs" / ".submissions" / "one")
    folder.create()
    plugin = tmp_path / "é.py"
    packs = [Pack("digits", (run,)).file(tmp_path, digits, None, [plugin]) for run in runs]
    folder.write(0, packs)
    assert [folder.read(0, number) for number in range(len(packs))] == packs
    assert [(e.id, e.keys, e.cells) for e in folder.entries(0)] == [
        (pack.id, pack.keys, pack.cells) for pack in packs
    ]
    assert folder.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UserError, match=f"cannot read task {len(packs)} of"):
        folder.read(0, len(packs))
    with pytest.raises(UserError, match="cannot read task 0 of"):
        folder.read(1, 0)
    assert folder.entries(1) == []


def test_a_pack_that_this_version_would_call_otherwise_is_refused(
    digits: Path, tmp_path: Path, runs: list[Run]
) -> None:
    folder = Folder(tmp_path / "runs" / ".submissions" / "one")
    folder.create()
    pack = Pack("digits", (runs[0],)).file(tmp_path, digits)
    folder.write(0, [pack.model_copy(update={"keys": ("another",)})])
    with pytest.raises(UserError, match=r"planned another, this one calls it .*; submit the table"):
        folder.read(0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
def test_what_another_user_put_in_its_place_is_not_read(
    digits: Path, tmp_path: Path, runs: list[Run]
) -> None:
    """A pack names plug-ins, which are run, and a record the lines that a profile's tasks run."""
    folder = Folder(tmp_path / "runs" / ".submissions" / "one")
    folder.create()
    folder.write(0, [Pack("digits", (runs[0],)).file(tmp_path, digits)])
    folder.note("digits", "local", "0", 1)
    assert folder.read_record()["table"] == "digits"
    os.chown(folder.path, 54_321, 54_321)
    for act in (
        lambda: folder.read(0, 0),
        lambda: list(folder.read_all(0)),
        folder.read_record,
        lambda: folder.writing(folder.queue_log).__enter__(),
    ):
        with pytest.raises(UserError, match="one belongs to user 54321: nothing in it is used"):
            act()
    assert folder.entries(0) == []


def test_nothing_is_read_or_written_through_a_link_in_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / ".submissions" / "one")
    folder.create()
    (tmp_path / "mine").write_text("mine")
    folder.packs(0).symlink_to(tmp_path / "mine")
    folder.offsets(0).symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="cannot read task 0"):
        folder.read(0, 0)
    with pytest.raises(OSError, match="symbolic links"), folder.writing(folder.packs(0)):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_others_of_the_group_may_submit_after_the_first_one_did(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o2775)
    Folder(tmp_path / "runs" / ".submissions" / "one").create()
    assert (tmp_path / "runs" / ".submissions").stat().st_mode & 0o777 == 0o775


def test_a_table_with_a_very_long_name_has_a_folder(digits: Path, tmp_path: Path) -> None:
    folder = new_submission("t" * 300, [], tmp_path, digits).folder
    folder.create()
    assert folder.path.is_dir()
