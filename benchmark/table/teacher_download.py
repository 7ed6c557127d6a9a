"""Download public teacher checkpoints: archives are unpacked file by file, nothing is executed."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, replacing
from benchmark.table.teachers import RegisteredTeacher, checkpoint_file, chosen, teachers_dir

_TIMEOUT = 30.0


def fetch_teachers(dataset: str, model: str | None) -> Iterator[str]:
    """Download what is missing; yields a line for every checkpoint.

    Raises UserError without a network, and where an archive lacks a file.
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
            yield f"{teacher.model}: {path}"


def _download(url: str, file: IO[bytes]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot download {url}: {reason}; offline, download it elsewhere and unpack it in"
            f" {teachers_dir().resolve()}"
        ) from error


def _unpack(archive: str, file: IO[bytes], teachers: list[RegisteredTeacher]) -> Iterator[str]:
    file.seek(0)
    try:
        with tarfile.open(fileobj=file) as content:
            for teacher in teachers:
                member = content.extractfile(teacher.file)
                if member is None:
                    raise UserError(f"{archive} holds no file {teacher.file}")
                path = _target(teacher)
                with replacing(path) as target:
                    shutil.copyfileobj(member, target)
                yield f"{teacher.model}: {path}"
    except (tarfile.TarError, KeyError) as error:
        raise UserError(
            f"{archive} is not the archive that the registry describes: {error}"
        ) from error


def _target(teacher: RegisteredTeacher) -> Path:
    path = teachers_dir() / teacher.file
    make_directory(path.parent)
    return path
