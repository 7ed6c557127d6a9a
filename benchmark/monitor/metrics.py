"""Numbers for Prometheus, as a text file that node_exporter's textfile collector reads.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, write_text
from benchmark.base.words import printable
from benchmark.run.state import RunState


@dataclass(frozen=True)
class TableMetrics:
    """One table at one moment.

    ``cells``: the number of cells by state. ``gpu_hours``: used so far, lost work included.
    ``images_per_second``: the sum over what runs now. ``heartbeat_age``: the oldest sign of
    life of a run that is running, in seconds, None if nothing runs. ``restarts``: how often
    runs were started again. ``planned``: whether it is known which cells are missing.
    """

    table: str
    cells: Mapping[str, int] = field(default_factory=dict)
    gpu_hours: float = 0.0
    images_per_second: float = 0.0
    heartbeat_age: float | None = None
    restarts: int = 0
    planned: bool = True


def metrics_text(tables: Iterable[TableMetrics], refreshed: float, file: str = "bench.prom") -> str:
    """Return the metrics in Prometheus' text format; ``refreshed``: seconds since 1970.

    Every series bears the name of its ``file``: a collector reads the files of many users and
    tables from one folder and drops what two of them call alike.
    """
    registry = CollectorRegistry()

    def gauge(name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"bench_{name}", words, ("file", *labels), registry=registry)

    cells = gauge("cells", "Cells of a table by state", "table", "state")
    hours = gauge("gpu_hours", "GPU-hours used, lost work included", "table")
    speed = gauge("images_per_second", "Training images per second, over what runs now", "table")
    life = "Oldest sign of life of a run that is running"
    heartbeat = gauge("heartbeat_age_seconds", life, "table")
    restarts = gauge("restarts", "How often runs were started again", "table")
    written = gauge("refreshed_timestamp_seconds", "When this file was written")
    written.labels(file).set(refreshed)
    for table in tables:
        of_table = (file, table.table)
        # States without cells are written as 0, so that a graph does not keep the last number.
        for state in RunState:
            if state is not RunState.MISSING or table.planned or table.cells.get(state):
                cells.labels(*of_table, state).set(table.cells.get(state, 0))
        hours.labels(*of_table).set(table.gpu_hours)
        speed.labels(*of_table).set(table.images_per_second)
        restarts.labels(*of_table).set(table.restarts)
        if table.heartbeat_age is not None:
            heartbeat.labels(*of_table).set(table.heartbeat_age)
    return generate_latest(registry).decode()


def write_metrics(path: Path, tables: Iterable[TableMetrics], refreshed: float) -> None:
    """Replace the text file atomically, so that Prometheus never reads half of it.

    Everybody may read it, whatever the umask: node_exporter is another user.
    Raises UserError if it cannot be a file.
    """
    if path.is_dir():
        raise UserError(f"--textfile {path} is a directory; name a file in it: {path}/bench.prom")
    make_directory(path.resolve().parent)
    write_text(path, metrics_text(tables, refreshed, printable(path.name)), mode=0o644)
