"""Write files so that a reader, or a crash, sees the old content or the new, never half."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from benchmark.base.errors import UserError
from benchmark.base.inside import folder_of

# What this project writes as JSON has kilobytes; anything far longer is not one of its files.
LONGEST = 10_000_000
LARGEST_WEIGHTS = 16 << 30  # bytes; the largest public teacher has a twentieth of it


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that replaces it, fsynced, when the block ends.

    Its permissions are ``mode``, or what the umask leaves. On any error (a full disk, say) the
    temporary file is removed and ``path`` stays as it was. Not ``durable``: a crash of the machine
    may leave an empty file. Raises UserError if the folder is a link that another user made.
    """
    with folder_of(path) as (folder, target):
        name = f".{target}.{secrets.token_hex(6)}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o666, dir_fd=folder)  # less what the umask takes
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                if mode is not None:
                    with contextlib.suppress(PermissionError):  # no modes there, as on FAT
                        os.fchmod(file.fileno(), mode)
            os.replace(name, target, src_dir_fd=folder, dst_dir_fd=folder)
            if durable:
                _sync_directory(folder)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            if isinstance(error, OSError) and error.filename in (None, name):
                error.filename, error.filename2 = str(path), None  # a full disk names no file
            raise


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Replace a file's content atomically; ``mode``: its permissions, whatever the umask."""
    with replacing(path, mode) as file:
        file.write(text.encode())


def write_json(path: Path, data: Any) -> None:
    """Replace a file by JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file to read it; nothing else in its place can make the reader wait.

    Raises UserError for a directory, a pipe or a device, else what open() raises.
    """
    # Without waiting: a pipe that nobody writes to would never open.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path, most: int = LONGEST) -> bytes:
    """Return a file's content, which memory must hold.

    Raises UserError for anything but a regular file of at most ``most`` bytes, OSError if it
    cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise UserError(f"{path} has {size:,} bytes: it is not a file of this project")
    return content


def read_json(path: Path, schema: int, most: int = LONGEST) -> dict[str, Any]:
    """Return a JSON object written with ``"schema": N``; N and N-1 are read.

    ``most``: bytes that such a file has at most.

    Raises UserError that names the file if it is missing, broken, newer, or no file at all.
    """
    try:
        content = read_bytes(path, most)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return parse_json(content, path, schema)


def parse_json(content: bytes, path: Path, schema: int) -> dict[str, Any]:
    """Return the JSON object that ``path`` holds; see :func:`read_json`."""
    try:
        data = json.loads(content)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path} cannot be read: nested too deeply") from error
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise UserError(f"{path} is not a file of this project (it has no schema number)")
    if not schema - 1 <= data["schema"] <= schema:
        raise UserError(
            f"{path} has schema {data['schema']}, this version reads {schema - 1} and {schema};"
            " use the version of bench that wrote it"
        )
    return data


def existing_place(path: Path) -> Path:
    """Return ``path``, or the nearest place above it that exists: where it would be made."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place


def make_directory(path: Path) -> None:
    """Create a directory with its parents; UserError if that is not permitted."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{path} is not writable")


def shared_directory(path: Path) -> None:
    """Create a folder in which whoever may write its parent may make folders of their own.

    A lab's runs directory is writable by its group even if people's umask says otherwise. What
    others made in it they alone may rename or remove (the sticky bit). Raises UserError if it
    cannot be written, or is a link that another user made.
    """
    fresh = not os.path.lexists(path)
    make_directory(path)
    with folder_of(path / "any"):  # no stranger's link
        pass
    if fresh:
        mode = path.parent.stat().st_mode & 0o7777
        path.chmod(mode | stat.S_ISVTX if mode & 0o022 else mode)


def _sync_directory(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise  # the others cannot sync directories, or need not
