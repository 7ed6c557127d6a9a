"""Act below a folder that several users share, through nothing that another user put there.

Names are looked up one by one from an opened folder, without following links, and owners are asked
at the moment of use: whoever may write the shared folder can put another thing in any place
between a look and what is done about it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.trust import user_name

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def opened(root: Path, *parts: str) -> Iterator[int]:
    """Open the folder ``parts`` below ``root``; yield its descriptor.

    ``root`` is what the user named, links and all. Raises UserError for a link below it, OSError
    if something is not there.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        place = root
        for part in parts:
            place = place / part
            if stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode):
                raise UserError(f"{place} is a link: nothing is done through it")
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def folder_of(path: Path) -> Iterator[tuple[int, str]]:
    """Open the folder that ``path`` lies in; yield its descriptor and the file's name in it.

    What is done through the descriptor happens in that folder, whatever is put in its place
    meanwhile. Raises UserError if its last part is a link that another user made, OSError if it
    cannot be opened.
    """
    place = path.parent
    try:
        descriptor = os.open(place, _FOLDER | os.O_NOFOLLOW)
    except OSError:
        descriptor = _opened_by_link(place)
    try:
        yield descriptor, path.name
    finally:
        os.close(descriptor)


def _opened_by_link(place: Path) -> int:
    """Open a folder through a link of the user's own, or of root's."""
    before = os.lstat(place)
    descriptor = os.open(place, _FOLDER)
    after = os.lstat(place)
    trusted = after.st_uid in (0, os.geteuid()) and os.path.samestat(before, after)
    if stat.S_ISLNK(after.st_mode) and not trusted:
        os.close(descriptor)
        raise UserError(
            f"{place} is a link that {user_name(after.st_uid)} made: nothing is written through it;"
            " remove it"
        )
    return descriptor


def unlink(path: Path) -> None:
    """Remove a file, or a link itself, if it is there; see :func:`folder_of`."""
    with contextlib.suppress(FileNotFoundError), folder_of(path) as (folder, name):
        os.unlink(name, dir_fd=folder)


def rename(path: Path, name: str) -> None:
    """Give a file another name in its folder, over whatever has it; see :func:`folder_of`."""
    with folder_of(path) as (folder, old):
        os.replace(old, name, src_dir_fd=folder, dst_dir_fd=folder)


@contextlib.contextmanager
def private(path: Path) -> Iterator[int]:
    """Open a folder that the user alone may write; yield its descriptor.

    Nobody else put there what lies in it, and nothing takes its place while it is open. Raises
    UserError for another kind of folder, OSError if it cannot be opened.
    """
    descriptor = os.open(path, _FOLDER | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise UserError(f"{path} belongs to {user_name(found.st_uid)}: nothing in it is used")
        if found.st_mode & 0o022:
            raise UserError(f"others than its owner may write {path}: nothing in it is used")
        yield descriptor
    finally:
        os.close(descriptor)


def remove(root: Path, path: Path) -> None:
    """Remove a file, a link itself, or a folder with all in it, that lies below ``root``.

    Raises UserError if it is reached through a link, or if neither it nor its folder is the
    user's; OSError if it cannot be removed.
    """
    *above, name = path.relative_to(root).parts
    with opened(root, *above) as folder:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        owners = {found.st_uid, os.fstat(folder).st_uid}
        if os.geteuid() not in owners:
            raise UserError(f"{path} belongs to {user_name(found.st_uid)}")
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name, dir_fd=folder)  # follows no link, inside either
        else:
            os.unlink(name, dir_fd=folder)


def check_own(folder: Path) -> None:
    """Refuse a folder that is a link of another user's, or belongs to one. Raises UserError."""
    found = os.lstat(folder)
    if stat.S_ISLNK(found.st_mode):
        if found.st_uid not in (0, os.geteuid()):
            raise UserError(
                f"{folder} is a link that {user_name(found.st_uid)} made: nothing is written"
                " through it; remove it"
            )
        found = os.stat(folder)
    if found.st_uid not in (0, os.geteuid()):
        raise UserError(
            f"{folder} belongs to {user_name(found.st_uid)}: only who began it can go on with it"
        )


@contextlib.contextmanager
def appending(path: Path) -> Iterator[int]:
    """Open a plain file to append to it or to cut it, never through a link.

    Raises OSError for anything else, UserError as :func:`folder_of` does.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with folder_of(path) as (folder, name):
        try:
            descriptor = os.open(name, flags, 0o666, dir_fd=folder)
        except OSError as error:
            why = "a link: nothing is written through it"
            reason = why if error.errno == errno.ELOOP else error.strerror
            raise OSError(error.errno, reason, str(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)
