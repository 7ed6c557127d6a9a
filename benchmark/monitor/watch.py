"""Show a status once, or again and again without being a burden. Imports no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmark.base.errors import UserError
from benchmark.monitor.look import Wanted, look
from benchmark.monitor.summary import summarise
from benchmark.monitor.text import WIDTH, Status, shorten, to_json, to_lines
from benchmark.monitor.wanted import submitted_plans, table_name, wanted_runs
from benchmark.run.directory import entries
from benchmark.slurm import queue_cache
from benchmark.slurm.profile import load_site
from benchmark.submission.sent import submitted_tables

SHORTEST_SECONDS = 30.0
_COLOURS = {
    r"\b(failed|stuck|diverged)\b": "red",
    r"\b(running|speed)\b": "cyan",
    r"\bdone\b": "green",
    r"\b(held|slow|requeued|stopped|cancelled|unknown|warning)\b": "yellow",
    r"^\S.*$": "bold",
    r"^ +\|.*$": "dim",
}


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


def show_status(
    runs_dir: Path, data_dir: Path, table: str | None, *, watch: bool, as_json: bool
) -> None:
    """Print how tables stand; with ``watch`` until Ctrl-C."""
    repeat(
        lambda age: to_lines(read_status(runs_dir, data_dir, table, age), _width()),
        lambda: to_json(read_status(runs_dir, data_dir, table)),
        watch=watch,
        as_json=as_json,
        every=refresh_seconds(),
    )


def refresh_seconds() -> float:
    """Return how often this site's watchers may ask Slurm."""
    return max(SHORTEST_SECONDS, float(load_site().refresh_seconds))


def repeat(
    lines: Callable[[float], list[str]],
    values: Callable[[], dict[str, Any]],
    *,
    watch: bool,
    as_json: bool,
    every: float,
) -> None:
    """Print lines or JSON once, or with ``watch`` the lines again and again.

    ``lines`` is told how many seconds old the queue may be; ``every``: seconds between
    refreshes, to which jitter is added.
    """
    if as_json and watch:
        raise UserError("--json prints once; leave --watch out, or ask again when it is needed")
    if as_json:
        print(json.dumps(values(), indent=1, allow_nan=False))
        return
    console = Console(highlight=False)
    if not watch:
        _print(console, lines(0.0))
        return
    if not console.is_terminal:
        while True:
            print(time.strftime("-- %Y-%m-%d %H:%M:%S"), *lines(every), "", sep="\n", flush=True)
            time.sleep(queue_cache.pause(every))
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            wait = queue_cache.pause(every)
            found = lines(every)
            foot = f"{time.strftime('%H:%M:%S')}, again in {wait:.0f} s; Ctrl-C leaves"
            live.update(coloured([*found, "", foot], _width()), refresh=True)
            time.sleep(wait)


def _width() -> int:
    """Return how wide lines may be now: a terminal may have been resized."""
    console = Console()
    return console.width if console.is_terminal else WIDTH


def coloured(lines: list[str], width: int) -> Text:
    """Return lines with states in colour, cut to the terminal's width."""
    text = Text("\n".join(shorten(line, width) for line in lines))
    for pattern, style in _COLOURS.items():
        text.highlight_regex(f"(?m){pattern}", style)
    return text


def _print(console: Console, lines: list[str]) -> None:
    if console.is_terminal:
        console.print(coloured(lines, _width()), soft_wrap=True)
    else:
        print("\n".join(lines))
