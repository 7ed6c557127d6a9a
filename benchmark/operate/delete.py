"""Delete runs with all that they left, one by name or those of a table that are not its own.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.inside import remove
from benchmark.monitor.look import Seen, look
from benchmark.results.stale import stale_runs
from benchmark.run.directory import RunDir, find_run
from benchmark.run.index import RunIndex
from benchmark.run.state import LIVING
from benchmark.table.load import load_table


@dataclass(frozen=True)
class Deleted:
    """What was deleted, or (``dry_run``) would be; ``kept``: why others stay, by key."""

    runs_dir: Path
    keys: tuple[str, ...]
    kept: dict[str, str]
    size: int  # bytes
    dry_run: bool


def delete(
    runs_dir: Path,
    run: str | None,
    table: str | None,
    *,
    overrides: bool,
    dry_run: bool,
) -> Deleted:
    """Delete a run, or with ``overrides`` those of a table that do not count as its own.

    A run that a process or a queue has stays, and so does one that taught others which stay. Raises
    UserError if neither one run nor a table's overrides are asked for.
    """
    if (run is None) == (table is None) or (table is not None) != overrides:
        raise UserError("say what to delete: a RUN, or --table T --overrides")
    if run is not None:
        keys = [find_run(run, runs_dir).key]
    else:
        index = RunIndex(runs_dir)
        index.refresh()
        found = stale_runs(load_table(str(table)), index)
        keys = list(dict.fromkeys(each.key for each in found if each.is_override))
    kept = _kept(keys, look(runs_dir), _taught(runs_dir))
    going = [key for key in keys if key not in kept]
    size = sum(_size(RunDir(runs_dir, key).path) for key in going)
    if not dry_run:
        for key in list(going):
            try:
                remove(runs_dir, RunDir(runs_dir, key).path)
            except (UserError, OSError) as error:
                kept[key] = str(error)
                going.remove(key)
    return Deleted(runs_dir, tuple(going), kept, size, dry_run)


def _taught(runs_dir: Path) -> dict[str, set[str]]:
    """Return which runs each run taught, by its key."""
    found: dict[str, set[str]] = {}
    index = RunIndex(runs_dir)
    index.refresh()
    for reading in index.all_runs():
        if reading.teacher is not None:
            found.setdefault(reading.teacher, set()).add(reading.key)
    return found


def _kept(keys: Collection[str], seen: Seen, taught: dict[str, set[str]]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for key in keys:
        standing = seen.standings.get(key)
        if standing is not None and standing.name in LIVING:
            kept[key] = f"it is {standing.name}; bench cancel {key} first"
    going = set(keys) - set(kept)
    while True:  # what taught a run that stays, stays
        more = {key: min(staying) for key in going if (staying := taught.get(key, set()) - going)}
        if not more:
            return kept
        kept |= {key: f"it taught {student}, which stays" for key, student in more.items()}
        going -= set(more)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
