"""Runs that wait in a queue, as far as files tell. Imports no torch.

A submission keeps what it will train in its private folder, but not whether it still lives.
While one of its runs is being trained it does, and those of its runs that were not started
yet are queued. What waits in Slurm without anything running is for ``bench status`` to say.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.yamlfile import validate
from benchmark.run.identity import Run

# A table that is submitted over and over leaves many folders; the newest tell what is going on.
_NEWEST = 20


def queued_runs(runs_dir: Path, table: str, running: Collection[str]) -> dict[str, Run]:
    """Return the runs that live submissions of a table hold, by key.

    ``running``: keys of the runs that are being trained; each is taken to be of the newest
    submission that holds it. Folders of other users are private and passed over.
    """
    found: dict[str, Run] = {}
    left = set(running)
    for folder in _folders(runs_dir / ".submissions", table):
        if not left:
            break
        packs = list(_packs(folder))
        keys = {str(key) for pack in packs for key in pack["keys"]}
        if left & keys:
            found.update({run.key: run for pack in packs for run in _runs(pack, folder)})
            left -= keys
    return found


def _folders(root: Path, table: str) -> list[Path]:
    """Return the newest submission folders of a table (named TABLE-TIME-NONCE), newest first."""
    try:
        folders = [path for path in root.iterdir() if path.name.rsplit("-", 2)[0] == table]
    except OSError:
        return []
    return sorted(folders, key=lambda path: path.name, reverse=True)[:_NEWEST]


def _packs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the packs of a folder: a file each, or a line each of a Slurm array's file."""
    try:
        texts = [path.read_text("utf-8") for path in sorted(folder.glob("packs/*.json"))]
        for path in sorted(folder.glob("array-*.jsonl")):
            texts += path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for text in texts:
        try:
            pack = json.loads(text)
        except ValueError:
            continue  # it is being written
        if isinstance(pack, dict) and {"keys", "runs"} <= pack.keys():
            yield pack


def _runs(pack: dict[str, Any], folder: Path) -> Iterator[Run]:
    for data in pack["runs"]:
        try:
            yield validate(Run, data, str(folder))
        except UserError:
            return  # another version's: what it holds cannot be told
