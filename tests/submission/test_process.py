"""A pack in a process of its own: what it answers, and how it ends without an answer."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from benchmark.submission.folder import Folder
from benchmark.submission.process import PackProcess, answer


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / ".submissions" / "one")
    folder.create()
    folder.logs.mkdir()
    return folder


def test_what_is_answered_is_read_once_it_has_ended() -> None:
    content = {"exit_code": 0, "endings": {"a": "done"}, "reasons": {}}
    process = PackProcess.__new__(PackProcess)
    process._answer = os.memfd_create("answer")
    answer(os.dup(process._answer), content)
    assert process.answer() == content


def test_a_process_that_is_killed_leaves_no_answer(folder: Folder) -> None:
    process = PackProcess(folder, 0, "pack", ())
    os.kill(process._process.pid, signal.SIGKILL)
    while not process.ended:
        time.sleep(0.01)
    assert process.answer() is None
    assert process.last_words() == "killed by SIGKILL"
    process.log.write_text("one\nNotEnough: two\n")
    process._process.returncode = 1
    assert process.last_words() == "NotEnough: two"


def test_its_log_goes_through_no_link(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    folder.pack_log("pack").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        PackProcess(folder, 0, "pack", ())
    assert (tmp_path / "mine").read_text() == "mine"
