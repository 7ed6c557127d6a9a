"""Play other users: root alone can, by taking their ids for a while."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ALICE, BOB, LAB = 54_321, 54_322, 54_320  # no user or group of this machine
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")


@contextlib.contextmanager
def acting_as(user: int, *groups: int, umask: int = 0o022) -> Iterator[None]:
    """Have the rights of a user, and of nobody else, while the block runs."""
    before = os.getgroups()
    mask = os.umask(umask)
    os.setgroups(list(groups))
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)
        os.umask(mask)


@contextlib.contextmanager
def a_place() -> Iterator[Path]:
    """A folder that every user may enter, as they may not enter pytest's."""
    place = Path(tempfile.mkdtemp(prefix="bench-users-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)
