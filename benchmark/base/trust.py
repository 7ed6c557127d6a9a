"""Who could have changed a file: what is found by name in a folder must not be a stranger's."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path


def own_name() -> str:
    """Return the name of the user that this process runs as, or the number of one without a name.

    By the system's entry: variables such as USER say what their setter likes.
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def user_name(uid: int) -> str:
    """Return a user's name, or ``user 1234`` if the system has no entry for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def changed_by_others(path: Path, trusting: Collection[int] = ()) -> str | None:
    """Return how another user could have changed ``path``, or None if nobody but root could.

    ``trusting``: users that count as this one does.

    The file counts, and every folder on the way to it, links followed or not: whoever may write
    a folder may put another file in its place, unless the folder has the sticky bit.
    """
    spelt = Path(os.path.abspath(path))
    real = Path(os.path.realpath(path))
    for place in dict.fromkeys((real, *real.parents, spelt, *spelt.parents)):
        why = _open_to_others(place, {0, os.geteuid(), *trusting})
        if why is not None:
            return why
    return None


def writers(mode: int, uid: int, gid: int) -> str | None:
    """Return who besides its owner may write a file or folder, None if nobody but root may.

    By what ``lstat`` tells of it: its mode, owner and group.
    """
    if mode & stat.S_IWOTH:
        return "everybody"
    if mode & stat.S_IWGRP and not _is_own_group(gid, uid):
        return f"the group {group_name(gid)}"
    return None


def _open_to_others(place: Path, trusted: Collection[int]) -> str | None:
    try:
        found = os.lstat(place)
    except OSError as error:
        return f"{place} cannot be looked at: {error.strerror}"
    if found.st_uid not in trusted:
        return f"{place} belongs to {user_name(found.st_uid)}"
    if stat.S_ISLNK(found.st_mode):
        return None  # who may replace it is a question of its folder
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return None
    who = writers(found.st_mode, os.geteuid(), found.st_gid)
    return None if who is None else f"{who} may write {place}"


def _is_own_group(gid: int, uid: int) -> bool:
    """Say whether a group is a user's private one, which many systems make for each user."""
    if gid == 0:
        return True
    with contextlib.suppress(KeyError):
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
        return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    return False


def group_name(gid: int) -> str:
    """Return a group's name, or its number if the system has no entry for it."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
