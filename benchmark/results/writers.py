"""Who could have written the results that a table shows, where that is not their owner alone.

Run directories follow the umask of who trains, so that a group may write them: a member could then
change another one's numbers. That is said, never hidden; nothing is left out for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmark.base.trust import user_name, writers
from benchmark.base.words import count
from benchmark.run.directory import RunDir

_NAMED = 3


def doubts(runs_dir: Path, keys: Iterable[str]) -> list[str]:
    """Return a line for runs whose result another user wrote, and one for those that might be."""
    strangers, open_to = [], Counter[str]()
    for key in keys:
        rundir = RunDir(runs_dir, key)
        try:
            owner, author = rundir.path.lstat().st_uid, rundir.result.lstat().st_uid
        except OSError:
            continue  # gone since it was read
        if author not in (owner, 0):
            strangers.append(f"  {key} of {user_name(owner)}: written by {user_name(author)}")
        found = writers(rundir.path) or writers(rundir.result)
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
