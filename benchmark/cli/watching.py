"""Print something once, or show it again and again without being a burden."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmark.base.errors import UserError
from benchmark.base.words import plain
from benchmark.cli.words.status import WIDTH, shorten
from benchmark.slurm import queue_cache

_COLOURS = {
    r"\b(failed|damaged|stuck|diverged)\b": "red",
    r"\b(running|speed)\b": "cyan",
    r"\bdone\b": "green",
    r"\b(held|slow|requeued|stopped|cancelled|unknown|warning)\b": "yellow",
    r"^\S.*$": "bold",
    r"^ +\|.*$": "dim",
}


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

    def shown(max_age: float) -> list[str]:
        return [plain(line) for line in lines(max_age)]

    if not watch:
        _print(console, shown(0.0))
        return
    if not console.is_terminal:
        while True:
            print(time.strftime("-- %Y-%m-%d %H:%M:%S"), *shown(every), "", sep="\n", flush=True)
            time.sleep(queue_cache.pause(every))
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            wait = queue_cache.pause(every)
            found = shown(every)
            foot = f"{time.strftime('%H:%M:%S')}, again in {wait:.0f} s; Ctrl-C leaves"
            live.update(coloured([*found, "", foot], width()), refresh=True)
            time.sleep(wait)


def width() -> int:
    """Return how wide lines may be now: a terminal may have been resized."""
    console = Console()
    return console.width if console.is_terminal else WIDTH


def coloured(lines: list[str], wide: int) -> Text:
    """Return lines with states in colour, cut to the terminal's width."""
    text = Text("\n".join(shorten(line, wide) for line in lines))
    for pattern, style in _COLOURS.items():
        text.highlight_regex(f"(?m){pattern}", style)
    return text


def _print(console: Console, lines: list[str]) -> None:
    if console.is_terminal:
        console.print(coloured(lines, width()), soft_wrap=True)
    else:
        print("\n".join(lines))
