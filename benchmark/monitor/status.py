"""How tables stand now, and how often that may be asked. Imports no torch."""

from __future__ import annotations

import time
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.monitor.look import Wanted, look
from benchmark.monitor.summary import Status, summarise
from benchmark.monitor.wanted import submitted_plans, table_name, wanted_runs
from benchmark.run.directory import entries
from benchmark.slurm.site import load_site
from benchmark.submission.sent import only_shown, submitted_tables

SHORTEST_SECONDS = 30.0


@only_shown()
def read_status(
    runs_dir: Path, data_dir: Path, table: str | None = None, max_age: float = 0.0
) -> Status:
    """Return how a table stands, or all of them.

    ``max_age``: how many seconds old the queue may be. Raises UserError for an unknown table;
    one whose plan cannot be made (it needs a plug-in, say) is shown without what is missing.
    """
    wanted: list[Wanted] = []
    warnings: tuple[str, ...] = ()
    name = None
    if table is not None:
        submitted = submitted_tables(runs_dir)
        name = table_name(table, submitted)
        try:
            wanted = [wanted_runs(table, data_dir, entries(runs_dir))]
        except UserError as error:
            if name not in submitted:
                raise
            warnings = (f"what is missing is not known: {error}",)
    else:
        wanted = submitted_plans(runs_dir, data_dir)
    seen = look(runs_dir, wanted, name, max_age)
    taken = seen.snapshot.taken if seen.snapshot else time.time()
    return Status(runs_dir, summarise(seen, wanted), taken, (*warnings, *seen.warnings))


def refresh_seconds() -> float:
    """Return how often this site's watchers may ask Slurm."""
    return max(SHORTEST_SECONDS, float(load_site().refresh_seconds))
