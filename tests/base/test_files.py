"""Files that a crash, a full disk or another version leaves whole or refuses by name."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, read_json, replacing, write_json, write_text
from tests.train.test_state import small_files


def test_what_is_replaced_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as file:  # noqa: PT012
        file.write(b"half of the n")
        file.flush()
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with small_files(1000), pytest.raises(OSError, match="File too large"):
        write_text(path, "new" * 1000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_json_that_no_other_program_reads_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "file", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[]", "is not a file of this .*no schema number"),
        ("{}", "is not a file of this .*no schema number"),
        ('{"schema": "1"}', "is not a file of this .*no schema number"),
        ('{"schema": 4}', "has schema 4, this version reads 2 and 3; use the version of bench"),
        ('{"schema": 1}', "has schema 1, this version reads 2 and 3"),
    ],
)
def test_files_of_others_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "file.json"
    if text is not None:
        path.write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=f"{re.escape(str(path))} {message}"):
        read_json(path, 3)


def test_this_schema_and_the_one_before_are_read(tmp_path: Path) -> None:
    for schema in (2, 3):
        write_json(tmp_path / "file", {"schema": schema, "a": 1})
        assert read_json(tmp_path / "file", 3)["a"] == 1


def test_a_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=re.escape(str(tmp_path / "file"))):
            make_directory(path)
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable to root")
def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UserError, match="is not writable"):
            make_directory(tmp_path)
        with pytest.raises(UserError, match="cannot create"):
            make_directory(tmp_path / "below")
    finally:
        tmp_path.chmod(0o755)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    content = {"schema": 1, "text": "größer\n", "list": [1, 2.5, None, True]}
    write_json(tmp_path / "file", content)
    assert json.loads((tmp_path / "file").read_text(encoding="utf-8")) == content


def pipe(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "is not a regular file"),
        (pipe, "is not a regular file"),
        (huge, "has 1,099,511,627,776 bytes: it is not a file of this project"),
    ],
)
def test_what_is_no_file_of_sensible_size_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "file")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'file'} {message}")):
        read_json(tmp_path / "file", 1)
