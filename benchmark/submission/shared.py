"""A runs directory that several users share: how it is set up, and whether it is. No torch.

The group owns it (setgid), may write it, and nobody renames or removes what another one made (the
sticky bit); so are the folders in it that everybody's submissions, copies of code and teachers'
answers lie in. They belong to who set the directory up, since the owner of a folder may rename
all in it.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import existing_place, make_directory
from benchmark.base.inside import folder_of
from benchmark.base.trust import changed_by_others, group_name, user_name
from benchmark.run.answers import answers_root
from benchmark.submission.folder import submissions_dir
from benchmark.submission.snapshot import code_store

MODE = 0o3775  # setgid, sticky, and writable by the group


def places(runs_dir: Path) -> tuple[Path, ...]:
    """Return the folders in a runs directory in which every user has some of their own."""
    return submissions_dir(runs_dir), code_store(runs_dir).parent, answers_root(runs_dir).parent


def distrust(runs_dir: Path) -> str | None:
    """Return how another user could put other things in the place of what is submitted, or None.

    Who owns the runs directory is trusted with it, as root is.
    """
    owner = existing_place(runs_dir).stat().st_uid
    for place in places(runs_dir):
        why = changed_by_others(existing_place(place), {owner})
        if why is not None:
            return why
    return None


def set_up(runs_dir: Path, group: str | None = None) -> Iterator[str]:
    """Make a runs directory, or change one, so that a group can share it; yield what to know.

    Raises UserError if that is not the user's to do, and for a group that is not there.
    """
    make_directory(runs_dir)
    owner = runs_dir.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise UserError(
            f"{runs_dir} belongs to {user_name(owner)}, who alone (and root) can set it up"
        )
    gid = runs_dir.stat().st_gid if group is None else _number(group)
    _open_to_group(runs_dir, owner, gid)
    for place in places(runs_dir):
        if os.path.lexists(place) and place.lstat().st_uid not in (owner, os.geteuid()):
            whose = user_name(place.lstat().st_uid)
            if os.geteuid() != 0:
                yield f"{place} belongs to {whose}: let root do this, or remove it while none works"
                continue
        place.mkdir(exist_ok=True)
        _open_to_group(place, owner, gid)
    found = runs_dir.stat()
    mode, group = f"{stat.S_IMODE(found.st_mode):o}", group_name(found.st_gid)
    yield f"{runs_dir}: mode {mode}, for the group {group}"
    if found.st_mode & stat.S_ISGID == 0:
        yield f"{runs_dir} did not take the setgid bit: are you a member of its group?"
    why = changed_by_others(runs_dir, {owner})
    if why is not None:
        yield f"others could still replace it: {why}"


def _number(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise UserError(f"there is no group '{group}' on this machine") from error


def _open_to_group(place: Path, owner: int, group: int) -> None:
    with folder_of(place / "any") as (descriptor, _):  # through no stranger's link
        try:
            os.chown(descriptor, owner if os.geteuid() == 0 else -1, group)
            os.chmod(descriptor, MODE)
        except OSError as error:
            raise UserError(f"cannot set up {place}: {error.strerror}") from error
