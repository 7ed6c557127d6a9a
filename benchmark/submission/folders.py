"""What was sent to Slurm from a runs directory, read back from the submission folders.

Beside each array lies a small index (pack id, label, keys and cells of its runs), so that a
pack can be found without reading what it trains. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import read_json, write_json
from benchmark.slurm import commands
from benchmark.slurm.arrays import index_file
from benchmark.slurm.queue import Snapshot, TaskState

SCHEMA = 1


class SentPack(NamedTuple):
    """A pack that was sent: ``task`` is 1234_5, None where the answer to its array was lost."""

    folder: Path
    table: str
    pack_id: str
    label: str
    run_keys: tuple[str, ...]
    task: str | None
    cells: tuple[str, ...] = ()  # of its runs, in their order


class SentArray(NamedTuple):
    """One array of a submission.

    ``job`` is None where Slurm's answer was lost. ``sent``: when the submission was noted last,
    seconds since 1970.
    """

    folder: Path
    table: str
    number: int
    nonce: str
    job: int | None
    sent: float = 0.0

    def in_queue(self, snapshot: Snapshot) -> SentArray:
        """Return the array with its job looked up by its nonce where the answer was lost."""
        if self.job is not None:
            return self
        return self._replace(job=snapshot.jobs_by_nonce.get(self.nonce))

    def packs(self) -> Iterator[SentPack]:
        """Yield the packs in the order of their tasks; none where the index is unreadable."""
        try:
            rows = json.loads(index_file(self.folder, self.number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        for number, (pack_id, label, keys, cells) in enumerate(rows):
            task = None if self.job is None else f"{self.job}_{number}"
            names = (self.folder, self.table, pack_id, label)
            yield SentPack(*names, tuple(keys), task, tuple(cells))


def sent_arrays(runs_dir: Path) -> list[SentArray]:
    """Return the user's own arrays, oldest first; other people's folders are passed over."""
    return [array for folder in own_folders(runs_dir) for array in _arrays(folder)]


def _queued_packs(runs_dir: Path, snapshot: Snapshot) -> Iterator[tuple[SentPack, TaskState]]:
    """Yield the packs whose task is waiting or running, without reading those of the past."""
    for array in sent_arrays(runs_dir):
        found = array.in_queue(snapshot)
        records = snapshot.by_job.get(found.job, ()) if found.job is not None else ()
        if not records:
            continue
        packs = list(found.packs())
        for record in records:
            for number in record.tasks:
                if number < len(packs):
                    yield packs[number], record.task_state


def runs_in_queue(runs_dir: Path, snapshot: Snapshot) -> dict[str, tuple[SentPack, TaskState]]:
    """Return the runs, by key, whose task is waiting or running: their pack, and its state."""
    found: dict[str, tuple[SentPack, TaskState]] = {}
    for pack, state in _queued_packs(runs_dir, snapshot):
        for key in pack.run_keys:
            # A run may wait in one submission while it runs in another.
            if key not in found or state.name == "running":
                found[key] = (pack, state)
    return found


def code_in_use(runs_dir: Path, without: Container[Path] = ()) -> set[Path] | None:
    """Return the copies of code that the user's submissions name, those ``without`` left out.

    None where a submission does not tell.
    """
    found: set[Path] = set()
    for folder in own_folders(runs_dir):
        if folder in without or not any(folder.glob("array-*")):
            continue
        try:
            found.add(Path(read_json(folder / "submission.json", SCHEMA)["code"]))
        except (UserError, KeyError, TypeError):
            return None
    return found


def cleaned_runs(runs_dir: Path) -> dict[str, dict[str, str]]:
    """Return the finished runs of the user's submissions that were removed, by table.

    Each run with its cell; none where nothing was removed or the list cannot be read.
    """
    try:
        tables = read_json(_cleaned(runs_dir), SCHEMA)["tables"]
        return {str(name): dict(runs) for name, runs in tables.items()}
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def note_cleaned(runs_dir: Path, table: str, runs: Mapping[str, str]) -> None:
    """Note finished runs, and their cells, before their submission is removed."""
    known = cleaned_runs(runs_dir)
    known[table] = {**known.get(table, {}), **runs}
    write_json(_cleaned(runs_dir), {"schema": SCHEMA, "tables": known})


def _cleaned(runs_dir: Path) -> Path:
    return runs_dir / ".submissions" / f"cleaned-{commands.user()}.json"


def own_folders(runs_dir: Path) -> list[Path]:
    """Return the user's own submission folders, to whatever executor they went, oldest first."""
    place = runs_dir / ".submissions"
    if not place.is_dir():
        return []
    mine = [
        (entry.stat().st_mtime, Path(entry.path))
        for entry in os.scandir(place)
        if entry.is_dir(follow_symlinks=False) and entry.stat().st_uid == os.geteuid()
    ]
    return [folder for _, folder in sorted(mine)]


def _arrays(folder: Path) -> list[SentArray]:
    # A folder without this file belongs to another executor, or is being written.
    with contextlib.suppress(UserError, KeyError, TypeError, OSError):
        path = folder / "submission.json"
        data, sent = read_json(path, SCHEMA), path.stat().st_mtime
        return [
            SentArray(folder, data["table"], number, array["nonce"], array["job"], sent)
            for number, array in enumerate(data["arrays"])
        ]
    return []
