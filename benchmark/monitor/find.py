"""Find the run, or the pack, that a person means. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from benchmark.base.errors import UserError, nearest
from benchmark.base.words import count
from benchmark.run.directory import entries
from benchmark.submission.sent import Work, local_work, slurm_work

_SHOWN = 3


def find_run(runs_dir: Path, text: str) -> str:
    """Return the key of the run that ``text`` names: its key, or a part that no other has.

    Raises UserError if none or several match, with the nearest.
    """
    works = [*slurm_work(runs_dir), *local_work(runs_dir)]
    keys = set(entries(runs_dir)) | {key for work in works for key in work.keys}
    return match(text, keys, runs_dir)


def match(text: str, keys: Collection[str], runs_dir: Path) -> str:
    """Return the one key that is, starts with, or contains ``text``."""
    if text in keys:
        return text
    for found in (
        sorted(key for key in keys if key.startswith(text)),
        sorted(key for key in keys if text in key),
    ):
        if len(found) == 1:
            return found[0]
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise UserError(
                f"'{text}' names {len(found)} runs: {', '.join(found[:_SHOWN])}{more};"
                " give more of the name"
            )
    hint = nearest(text, keys, 0.4)
    raise UserError(f"no run '{text}' in {runs_dir} ({count(len(keys), 'run')}){hint}")


def packs_of(runs_dir: Path, key: str) -> list[Work]:
    """Return the packs that a run was submitted in, oldest first."""
    works = [*local_work(runs_dir), *slurm_work(runs_dir)]
    mine = [work for work in works if key in work.keys]
    return sorted(mine, key=lambda work: work.folder.path.stat().st_mtime)
