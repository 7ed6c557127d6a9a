"""Files of public teachers: whole, the registered ones, and never believed by what lies beside."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.table import teacher_download, teachers
from benchmark.table.teacher_download import fetch_teachers
from benchmark.table.teachers import RegisteredTeacher, Registry, checkpoint_digest

CONTENT = b"weights" * 1000


class Site(BaseHTTPRequestHandler):
    """Serves what ``files`` holds; of what is named in ``broken`` only the first half.

    Whole, with its length, or as one chunk where ``chunked`` names it.
    """

    files: dict[str, bytes]
    broken: set[str]
    chunked: set[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = self.files[self.path]
        chunked = self.path in self.chunked
        self.send_response(200)
        self.send_header("Connection", "close")
        name, value = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", None)
        self.send_header(name, value or str(len(content)))
        self.end_headers()
        sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content) if chunked else content
        half = len(sent) // 2 if self.path in self.broken else None
        self.wfile.write(sent[:half])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.files, Site.broken, Site.chunked = {}, set(), set()
    server = HTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def registered(monkeypatch: pytest.MonkeyPatch, folder: Path, **fields: object) -> Path:
    """Make a registry of one teacher; return where its file lies."""
    teacher = RegisteredTeacher.model_validate(
        {
            "dataset": "cifar100",
            "model": "resnet56",
            "file": "resnet56/last.pth",
            "accuracy": 72.34,
            "license": "none",
            "source": "none",
            **fields,
        }
    )
    found = Registry.model_validate({"schema": 1, "teachers": (teacher,)})
    monkeypatch.setattr(teachers, "registry", lambda: found)
    monkeypatch.setenv("BENCH_TEACHERS", str(folder / "teachers"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder / "teachers/resnet56/last.pth"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as written:
        entry = tarfile.TarInfo("resnet56/last.pth")
        entry.size = len(content)
        written.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["url", "archive"])
def test_a_whole_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str, kind: str
) -> None:
    Site.files["/teacher"] = CONTENT if kind == "url" else archive(CONTENT)
    where = {kind: f"{site}/teacher"}
    path = registered(monkeypatch, tmp_path, sha256=sha256(CONTENT), **where)
    assert list(fetch_teachers("cifar100", None)) == [f"resnet56: {path}"]
    assert path.read_bytes() == CONTENT
    assert list(fetch_teachers("cifar100", None)) == [f"resnet56: already in {path}"]


@pytest.mark.parametrize("kind", ["url", "archive"])
def test_a_download_that_broke_off_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str, kind: str
) -> None:
    Site.files["/teacher"] = CONTENT if kind == "url" else archive(os.urandom(7000))
    Site.broken.add("/teacher")
    where = {kind: f"{site}/teacher"}
    path = registered(monkeypatch, tmp_path, **where)
    with pytest.raises(UserError, match=r"/teacher broke off after [\d,]+ of [\d,]+ bytes; run"):
        list(fetch_teachers("cifar100", None))
    assert not path.parent.exists() or list(path.parent.iterdir()) == []


@pytest.mark.parametrize("broken", [False, True])
def test_a_download_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str, broken: bool
) -> None:
    Site.files["/teacher"] = CONTENT
    Site.chunked.add("/teacher")
    Site.broken.update(["/teacher"] if broken else [])
    # The registry may know the digest's beginning alone, as it stands in a file's name.
    path = registered(monkeypatch, tmp_path, sha256=sha256(CONTENT)[:8], url=f"{site}/teacher")
    if broken:
        with pytest.raises(UserError, match="/teacher broke off; run this again"):
            list(fetch_teachers("cifar100", None))
        assert list(path.parent.iterdir()) == []
    else:
        assert list(fetch_teachers("cifar100", None)) == [f"resnet56: {path}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(os.urandom(7000))[:3000], "is cut off"),
        (archive(b"")[:20], "is cut off|is not the archive"),
        (b"no archive", "is not the archive"),
        (archive(os.urandom(7000))[:-3000] + bytes(3000), "is not the archive|is cut off"),
    ],
    ids=["half", "beginning", "text", "overwritten"],
)
def test_a_damaged_archive_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str, content: bytes, message: str
) -> None:
    Site.files["/teacher"] = content
    path = registered(monkeypatch, tmp_path, archive=f"{site}/teacher")
    with pytest.raises(UserError, match=message):
        list(fetch_teachers("cifar100", None))
    assert not path.exists()


@pytest.mark.parametrize("kind", ["url", "archive"])
def test_another_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str, kind: str
) -> None:
    Site.files["/teacher"] = b"other" if kind == "url" else archive(b"other")
    where = {kind: f"{site}/teacher"}
    path = registered(monkeypatch, tmp_path, sha256=sha256(CONTENT), **where)
    with pytest.raises(UserError, match="resnet56 is not the registered file"):
        list(fetch_teachers("cifar100", None))
    assert list(path.parent.iterdir()) == []


def test_a_file_larger_than_any_teacher_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    monkeypatch.setattr(teacher_download, "_LARGEST", 1 << 19)
    Site.files["/teacher"] = archive(bytes(1 << 20))  # a thousand times smaller as it travels
    registered(monkeypatch, tmp_path, archive=f"{site}/teacher")
    with pytest.raises(UserError, match="it is no teacher"):
        list(fetch_teachers("cifar100", None))


def test_a_digest_is_of_the_file_whatever_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = registered(monkeypatch, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    known = teachers.registered("cifar100", "resnet56")
    assert known is not None
    assert checkpoint_digest(known) == sha256(CONTENT)
    # Another file of the same size and time, beside which a note says what it should be.
    stat = path.stat()
    other = CONTENT[::-1]
    path.write_bytes(other)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    stamp = [stat.st_size, stat.st_mtime_ns]
    note = json.dumps({"stamp": stamp, "sha256": sha256(CONTENT)})
    path.with_name(path.name + ".sha256").write_text(note)
    assert checkpoint_digest(known) == sha256(other)
    assert checkpoint_digest(known) == sha256(other)  # as it was noted, in the user's own cache
    (note_file,) = (tmp_path / "cache").rglob("*.json")
    note_file.write_text("[" * 10_000)
    assert checkpoint_digest(known) == sha256(other)
