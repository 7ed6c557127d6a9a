"""Bundles as folders and as tar files: what was changed is named, what leads out is refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.export import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    (place / "runs" / "a").mkdir(parents=True)
    (place / "runs" / "a" / "result.json").write_text("{}")
    (place / "README.md").write_text("# A table\n")
    manifest.write_manifest(place, {"table": "t"})
    return place


def lines(folder: Path) -> list[str]:
    return list(manifest.differing(folder, manifest.read_manifest(folder)["files"]))


def test_what_was_changed_is_named(folder: Path) -> None:
    assert lines(folder) == []
    (folder / "README.md").write_text("# a table\n")
    (folder / "runs" / "a" / "result.json").unlink()
    (folder / "runs" / "b").write_text("new")
    assert lines(folder) == [
        "README.md was changed",
        "runs/a/result.json is gone",
        "runs/b is not listed",
    ]


def test_a_link_is_no_file_of_a_bundle(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").rename(tmp_path / "elsewhere")
    (folder / "README.md").mkdir()
    assert lines(folder) == ["README.md is gone"]
    (folder / "README.md").rmdir()
    os.mkfifo(folder / "README.md")
    assert lines(folder) == ["README.md was changed"]  # and nobody waits for it


def test_the_same_folder_gives_the_same_file(folder: Path, tmp_path: Path) -> None:
    manifest.pack(folder, tmp_path / "one.tar", "t-bundle")
    os.utime(folder / "README.md", (0, 0))
    (folder / "README.md").chmod(0o600)
    manifest.pack(folder, tmp_path / "two.tar", "t-bundle")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with manifest.opened_bundle(tmp_path / "one.tar") as opened:
        assert lines(opened) == []
        assert manifest.files_of(opened) == manifest.files_of(folder)
    assert not opened.exists()


def tar_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member, io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("t/README.md", tarfile.SYMTYPE)], "README.md is no plain file"),
        ([("t/pipe", tarfile.FIFOTYPE)], "t/pipe is no plain file"),
        ([("../out", tarfile.REGTYPE)], "is no bundle"),
        ([("/out", tarfile.REGTYPE)], "has no MANIFEST.json"),
        ([("t/README.md", tarfile.REGTYPE)], "has no MANIFEST.json"),
    ],
)
def test_archives_that_are_no_bundles(
    members: list[tuple[str, bytes]], told: str, tmp_path: Path
) -> None:
    path = tar_of(tmp_path / "odd.tar", *members)
    with pytest.raises(UserError, match=told), manifest.opened_bundle(path):
        pass
    assert not (tmp_path.parent / "out").exists()


def test_files_that_are_no_bundles(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    for path, told in ((tmp_path / "text", "is no bundle"), (tmp_path / "no", "does not exist")):
        with pytest.raises(UserError, match=told), manifest.opened_bundle(path):
            pass
    with pytest.raises(UserError, match=r"MANIFEST\.json does not exist"):
        manifest.read_manifest(tmp_path)
    for name in ("../../etc/passwd", "/etc/passwd"):
        told = {"schema": 1, "table": "t", "files": {name: {}}}
        (folder / manifest.NAME).write_text(json.dumps(told))
        with pytest.raises(UserError, match="which lies outside the bundle"):
            manifest.read_manifest(folder)
    (folder / manifest.NAME).write_text(json.dumps({"schema": 1, "table": "t"}))
    with pytest.raises(UserError, match="is no manifest of a bundle"):
        manifest.read_manifest(folder)
