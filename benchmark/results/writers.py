"""Who could have written the results that a table shows, where that is not their owner alone.

Run directories follow the umask of who trains, so that a group may write them: a member could then
change another one's numbers. That is said, never hidden; nothing is left out for it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from benchmark.base.trust import user_name, writers
from benchmark.base.words import count

_NAMED = 3


def doubts(runs_dir: Path, keys: Iterable[str]) -> list[str]:
    """Return a line for runs whose result another user wrote, and one for those that might be."""
    strangers, open_to = [], Counter[str]()
    # Few modes and owners among many files, and the system's list of groups may be far away.
    who_may_write = cache(writers)
    root = str(runs_dir)
    for key in keys:
        try:
            folder, result = os.lstat(f"{root}/{key}"), os.lstat(f"{root}/{key}/result.json")
        except OSError:
            continue  # gone since it was read
        owner, author = folder.st_uid, result.st_uid
        if author not in (owner, 0):
            strangers.append(f"  {key} of {user_name(owner)}: written by {user_name(author)}")
        found = who_may_write(folder.st_mode, owner, folder.st_gid) or who_may_write(
            result.st_mode, author, result.st_gid
        )
        if found is not None:
            open_to[found] += 1
    lines = [
        f"{count(number, 'result')} may be changed by {who}, not by its owner alone: run"
        " directories follow the umask (docs/clusters.md)"
        for who, number in open_to.items()
    ]
    if strangers:
        lines.append(f"{count(len(strangers), 'result')} that another user wrote:")
        lines += strangers[:_NAMED]
        if len(strangers) > _NAMED:
            lines.append(f"  and {len(strangers) - _NAMED} more")
    return lines
