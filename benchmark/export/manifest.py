"""What a bundle holds, file by file with its digest; as a folder, or as one tar file.

A bundle may come from anybody: names that lead out of it, and whatever is no plain file, are
refused. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular, read_bytes, read_json, replacing, write_text

SCHEMA = 1
NAME = "MANIFEST.json"
_PART = 1 << 20
_LARGEST = 100_000_000


def digest_of(path: Path) -> str:
    """Return the sha256 of a plain file. Raises OSError and UserError."""
    found = hashlib.sha256()
    with open_regular(path) as file:
        while part := file.read(_PART):
            found.update(part)
    return f"sha256:{found.hexdigest()}"


def files_of(folder: Path) -> list[str]:
    """Return the names of all that lies in a bundle's folder but its manifest, in order."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not _dir(path))
    return sorted(name for name in names if name != NAME)


def _dir(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def write_manifest(folder: Path, about: dict[str, Any]) -> str:
    """Write what a bundle holds, beside ``about``; return the manifest's own digest."""
    files = {
        name: {"size": (folder / name).stat().st_size, "digest": digest_of(folder / name)}
        for name in files_of(folder)
    }
    told = {"schema": SCHEMA, **about, "files": files}
    write_text(folder / NAME, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return digest_of(folder / NAME)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a bundle's manifest. Raises UserError where it is none, or names what lies outside."""
    found = read_json(folder / NAME, SCHEMA, _LARGEST)
    files = found.get("files")
    if not isinstance(files, dict) or not isinstance(found.get("table"), str):
        raise UserError(f"{folder / NAME} is no manifest of a bundle")
    for name in files:
        if not _is_inside(name):
            raise UserError(f"{folder / NAME} names {name!r}, which lies outside the bundle")
    return found


def differing(folder: Path, files: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each file that is gone, was changed, or is not listed."""
    there = set(files_of(folder))
    for name in sorted(there | set(files)):
        if name not in there:
            yield f"{name} is gone"
        elif name not in files:
            yield f"{name} is not listed"
        else:
            try:
                same = digest_of(folder / name) == files[name]["digest"]
            except (OSError, UserError, KeyError, TypeError):
                same = False
            if not same:
                yield f"{name} was changed"


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


# -- one file ---------------------------------------------------------------------------------


def pack(folder: Path, path: Path, root: str) -> None:
    """Write a folder as a tar file, below ``root``: the same content gives the same bytes.

    Raises UserError if it cannot be written.
    """
    try:
        with (
            replacing(path) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name in [NAME, *files_of(folder)]:
                member = tarfile.TarInfo(f"{root}/{name}")
                member.size, member.mode = (folder / name).stat().st_size, 0o644
                with (folder / name).open("rb") as content:
                    archive.addfile(member, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def opened_bundle(path: Path) -> Iterator[Path]:
    """Give the folder of a bundle: ``path`` itself, or what its tar file holds, for a while.

    Raises UserError for what is neither.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as place:
        try:
            with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:*") as archive:
                odd = next((m.name for m in archive if not (m.isreg() or m.isdir())), None)
                if odd is not None:
                    raise UserError(f"{path} is no bundle: {odd} is no plain file")
                archive.extractall(place, filter="data")
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist") from error
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"{path} is no bundle: {error}") from error
        (*roots,) = (found.parent for found in Path(place).glob(f"*/{NAME}"))
        if len(roots) != 1:
            raise UserError(f"{path} is no bundle: it has no {NAME}")
        yield roots[0]


def content_of(folder: Path, name: str) -> bytes:
    """Return a file of a bundle. Raises UserError where it is not there or cannot be read."""
    try:
        return read_bytes(folder / name, _LARGEST)
    except OSError as error:
        raise UserError(f"{folder / name} cannot be read: {error.strerror}") from error
