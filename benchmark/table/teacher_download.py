"""Download public teacher checkpoints: archives are unpacked file by file, nothing is executed."""

from __future__ import annotations

import http.client
import lzma
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, replacing
from benchmark.table.teachers import (
    RegisteredTeacher,
    checkpoint_file,
    chosen,
    content_digest,
    teachers_dir,
)

_TIMEOUT = 30.0
_LARGEST = 16 << 30  # bytes; the largest archive of the registry has a tenth of it


def fetch_teachers(dataset: str, model: str | None) -> Iterator[str]:
    """Download what is missing; yields a line for every checkpoint.

    Raises UserError without a network, and if an archive lacks a file.
    """
    wanted = chosen(dataset, model)
    missing = [teacher for teacher in wanted if checkpoint_file(teacher) is None]
    for teacher in wanted:
        if teacher not in missing:
            yield f"{teacher.model}: already in {checkpoint_file(teacher)}"
    for archive in sorted({teacher.archive for teacher in missing if teacher.archive}):
        inside = [teacher for teacher in missing if teacher.archive == archive]
        with tempfile.TemporaryFile() as file:
            _download(archive, file)
            yield from _unpack(archive, file, inside)
    for teacher in missing:
        if teacher.archive is None and teacher.url is not None:
            path = _target(teacher)
            with replacing(path) as file:
                _download(teacher.url, file)
                _check(teacher, file)
            yield f"{teacher.model}: {path}"


def _download(url: str, file: IO[bytes]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            received = _copy(answer, file, url)
            announced = answer.headers.get("Content-Length")
    except http.client.IncompleteRead as error:
        raise UserError(f"the download of {url} broke off; run this again") from error
    except (
        urllib.error.URLError,
        TimeoutError,
        ConnectionError,
        http.client.HTTPException,
    ) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot download {url}: {reason}; offline, download it elsewhere and unpack it in"
            f" {teachers_dir().resolve()}"
        ) from error
    if announced is not None and announced.isdecimal() and int(announced) != received:
        raise UserError(
            f"the download of {url} broke off after {received:,} of {int(announced):,} bytes;"
            " run this again"
        )


def _copy(source: IO[bytes], target: IO[bytes], name: str) -> int:
    """Copy a file of a size that teachers have; return its length in bytes."""
    length = 0
    while block := source.read(1 << 20):
        length += len(block)
        if length > _LARGEST:
            raise UserError(f"{name} has more than {_LARGEST:,} bytes: it is no teacher")
        target.write(block)
    return length


def _check(teacher: RegisteredTeacher, file: IO[bytes]) -> None:
    """Refuse a file that is not the registered one, as far as the registry knows it."""
    file.flush()
    file.seek(0)
    found = content_digest(file)
    if teacher.sha256 is not None and not found.startswith(teacher.sha256):
        raise UserError(
            f"what was downloaded as {teacher.model} is not the registered file: its sha256 is"
            f" {found[:12]}..., the registry has {teacher.sha256[:12]}...; run this again"
        )


def _unpack(archive: str, file: IO[bytes], teachers: list[RegisteredTeacher]) -> Iterator[str]:
    file.seek(0)
    try:
        with tarfile.open(fileobj=file) as content:
            for teacher in teachers:
                entry = content.getmember(teacher.file)
                member = content.extractfile(entry) if entry.isreg() else None
                if member is None:
                    raise UserError(f"{archive} holds no file {teacher.file}")
                path = _target(teacher)
                with replacing(path) as target:
                    _copy(member, target, teacher.file)
                    _check(teacher, target)
                yield f"{teacher.model}: {path}"
    except EOFError as error:
        raise UserError(f"{archive} is cut off: its content ends in the middle") from error
    # What else a damaged archive makes its decompressor raise.
    except (tarfile.TarError, KeyError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # this machine's own refusal
            raise
        raise UserError(
            f"{archive} is not the archive that the registry describes: {error}"
        ) from error


def _target(teacher: RegisteredTeacher) -> Path:
    path = teachers_dir() / teacher.file
    make_directory(path.parent)
    return path
