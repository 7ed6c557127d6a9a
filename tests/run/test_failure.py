"""Attempts that failed alike are counted, whatever the file of the one before holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.run.directory import RunDir
from benchmark.run.failure import note_failure
from benchmark.run.reading import read
from tests.run.test_identity import RUN


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path, RUN.key)
    found.create(RUN)
    return found


def test_attempts_that_failed_alike_are_counted(rundir: RunDir) -> None:
    for _ in range(3):
        note_failure(rundir, UserError("no data\nand more"))
    assert read(rundir)[1:3] == ("failed", "no data")
    assert read(rundir).attempts == 3
    note_failure(rundir, MemoryError())
    assert (read(rundir).reason, read(rundir).attempts) == ("MemoryError", 1)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"schema": 1, "reason": "no data"}', b"[" * 9999]
)
def test_a_damaged_note_is_replaced(rundir: RunDir, content: bytes) -> None:
    rundir.failure.write_bytes(content)
    assert (read(rundir).state, read(rundir).attempts) == ("failed", 1)
    note_failure(rundir, UserError("no data"))
    note_failure(rundir, UserError("no data"))
    assert read(rundir).attempts == 2
