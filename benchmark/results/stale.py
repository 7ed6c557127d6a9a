"""Which runs no longer count for a table, and which part of their identity changed.

After an edit to a table, a recipe or a method, old runs stay where they are; they are shown as
overrides by collection, and listed here with the reason. Nothing is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.base.words import count
from benchmark.results.assign import Pairs
from benchmark.results.collect import collect
from benchmark.run.index import RunIndex
from benchmark.run.state import RunState
from benchmark.table.load import load_table
from benchmark.table.spec import Table


@dataclass(frozen=True)
class StaleRun:
    """A run that a slot would have, were it not for ``changes``: field -> (run's, table's)."""

    key: str
    row: str
    column: str
    changes: Pairs

    @property
    def is_override(self) -> bool:
        """Whether more than the versions of its code differs: an edited table, or --set."""
        return any(not _is_version(name) for name in self.changes)

    def line(self) -> str:
        """Return the run and the reason as a line."""
        told = "; ".join(
            f"{name} was {_short(theirs)}, is {_short(ours)}"
            for name, (theirs, ours) in self.changes.items()
        )
        return f"{self.key}  ({self.row}, {self.column}): {told}"


def stale_runs(table: Table, index: RunIndex) -> list[StaleRun]:
    """Return the runs that belong to a slot but are not the table's own, by key."""
    found = [
        StaleRun(run.key, row, column, dict(group.differences))
        for (row, column), groups in collect(table, index).groups.items()
        for group in groups
        if group.differences
        for run in group.runs
        if run.state is not RunState.QUEUED
    ]
    return sorted(found, key=lambda run: (run.key, run.row, run.column))


def describe_stale(name: str, runs_dir: Path, as_json: bool) -> str:
    """Return the stale runs of a table as lines or as JSON."""
    table = load_table(name)
    index = RunIndex(runs_dir)
    index.refresh()
    found = stale_runs(table, index)
    if as_json:
        return json.dumps(stale_to_json(table, found), indent=1, allow_nan=False)
    lines = []
    for overrides, head in ((False, "of other versions of the code"), (True, "with overrides")):
        mine = [run for run in found if run.is_override is overrides]
        if mine:
            lines += [f"{count(len({run.key for run in mine}), 'run')} {head}:"]
            lines += [f"  {run.line()}" for run in mine]
    runs = {run.key for run in found}
    does = "1 run does" if len(runs) == 1 else f"{len(runs)} runs do"
    last = f"{table.name}: {does} not count in {runs_dir.resolve()}; nothing was deleted"
    return "\n".join([*lines, last])


def stale_to_json(table: Table, found: list[StaleRun]) -> dict[str, Any]:
    """Return the list as JSON values."""
    return {
        "schema": 1,
        "table": table.name,
        "stale": [
            {
                "run": run.key,
                "row": run.row,
                "column": run.column,
                "override": run.is_override,
                "changes": _as_json(run.changes),
            }
            for run in found
        ],
    }


def _as_json(changes: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {name: {"run": theirs, "table": ours} for name, (theirs, ours) in changes.items()}


def _is_version(name: str) -> bool:
    bare = name.removeprefix("teacher.")
    return bare.startswith("versions.") or (bare.endswith(".version") and ".options." not in bare)


def _short(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
