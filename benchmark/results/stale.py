"""Which runs no longer count for a table, and which part of their identity changed.

After an edit to a table, a recipe or a method, old runs stay where they are; they are shown as
overrides by collection, and listed here with the reason. Nothing is deleted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.results.collect import collect, foreign_runs
from benchmark.results.index import RunIndex
from benchmark.spec import Table
from benchmark.tables import load_table


@dataclass(frozen=True)
class StaleRun:
    """A run that a slot would have, were it not for ``changes``: field -> (run's, table's)."""

    key: str
    row: str
    column: str
    changes: dict[str, tuple[Any, Any]]

    def line(self) -> str:
        """Return the run and the reason as a line."""
        told = "; ".join(
            f"{name} was {_short(theirs)}, is {_short(ours)}"
            for name, (theirs, ours) in self.changes.items()
        )
        return f"{self.key}  ({self.row}, {self.column}): {told}"


def stale_runs(table: Table, index: RunIndex) -> list[StaleRun]:
    """Return the runs that belong to a slot but are not the table's own, by key."""
    collected = collect(table, index)
    found = []
    for (row, column), groups in collected.groups.items():
        for group in groups:
            if group.differences:
                changes = foreign_runs(collected, (row, column), group)
                found += [StaleRun(run.key, row, column, changes) for run in group.runs]
    return sorted(found, key=lambda run: (run.key, run.row))


def describe_stale(name: str, runs_dir: Path, as_json: bool) -> str:
    """Return the stale runs of a table as lines or as JSON."""
    table = load_table(name)
    index = RunIndex(runs_dir)
    index.refresh()
    found = stale_runs(table, index)
    if as_json:
        return json.dumps(stale_to_json(table, found), indent=1)
    lines = [run.line() for run in found]
    return "\n".join([*lines, f"{table.name}: {len(found)} runs in {runs_dir} do not count"])


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
                "changes": {
                    name: {"run": theirs, "table": ours}
                    for name, (theirs, ours) in run.changes.items()
                },
            }
            for run in found
        ],
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
