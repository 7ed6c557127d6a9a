"""How tables stand, and what everybody's tasks do, in aligned lines."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from benchmark.base.words import count, duration
from benchmark.monitor.everybody import COLUMNS, Share
from benchmark.monitor.failures import FailureGroup
from benchmark.monitor.summary import HELD_BY_SLURM, Silent, Status, TableStatus
from benchmark.run.state import RunState

WIDTH = 100
_ALWAYS = (
    RunState.DONE,
    RunState.RUNNING,
    RunState.QUEUED,
    RunState.FAILED,
    RunState.MISSING,
)
_LABEL = 10
_LABELS = ("failed", "damaged", "stopped", "waiting", "held", "stuck", "slow", "note")
# Reasons of Slurm's that end by no waiting: the job itself asks for too much.
_NEVER = r"Max\w*PerJob|PartitionTimeLimit|PartitionNodeLimit|NeverSatisfied|Invalid(Account|QOS)"
_WIDEST = 60  # characters of a name that somebody else chose
_MOST = 5  # groups, or runs, that are listed


def status(found: Status, width: int = WIDTH) -> list[str]:
    """Return a status as lines of at most ``width`` characters, longer words left whole."""
    lines = [f"warning: {text}" for text in found.warnings]
    for number, table in enumerate(found.tables):
        lines += ([""] if number or lines else []) + list(_table(table))
    if not found.tables:
        lines.append(f"no runs and no submissions in {found.runs_dir}")
    return [part for line in lines for part in fold(line, width)]


def everybody(found: Iterable[Share], warnings: Iterable[str] = ()) -> list[str]:
    """Return a line a user and table."""
    lines = [f"warning: {text}" for text in warnings]
    items = [
        replace(item, user=shorten(item.user, _WIDEST), table=shorten(item.table, _WIDEST))
        for item in found
    ]
    if not items:
        return [*lines, "nobody has tasks of this project in the queue, or had in the last day"]
    users = max(4, *(len(item.user) for item in items))
    tables = max(5, *(len(item.table) for item in items))
    heads = "".join(f"{name:>11}" for name in COLUMNS)
    lines.append(f"{'user':{users}}  {'table':{tables}}{heads}{'GPUs':>7}{'GPU-hours':>12}")
    for item in items:
        counts = "".join(f"{item.tasks[name] or '.':>11}" for name in COLUMNS)
        hours = "not tracked" if item.gpu_hours is None else f"{item.gpu_hours:.1f}"
        gpus = f"{item.gpus or '.':>7}{hours:>12}"
        lines.append(f"{item.user:{users}}  {item.table:{tables}}{counts}{gpus}")
    lines.append("tasks; what has ended and the GPU-hours are those of the last day")
    return lines


def fold(line: str, width: int) -> list[str]:
    """Break a line that is too long between words; what follows stands below its text."""
    text = re.match(rf" *(?:{'|'.join(_LABELS)})? *(?:\| )?", line)
    below = re.sub(r"[^ |]", " ", text[0] if text else "")
    if len(line) <= width:
        return [line]
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=below,
        break_long_words=False,
        break_on_hyphens=False,
    )


def shorten(line: str, width: int) -> str:
    """Cut a line that is too long, visibly."""
    return line if len(line) <= width else line[: width - 1] + "…"


def _table(table: TableStatus) -> Iterator[str]:
    always = _ALWAYS if table.planned else _ALWAYS[:-1]
    states = [s for s in RunState if s in always or table.runs.get(s)]
    columns = [max(7, len(s)) + 2 for s in states]
    yield table.table + "".join(
        f"{s:>{w}}" for s, w in _from(states, columns, len(table.table), _LABEL)
    )
    for name, counts in (("cells", table.cells), ("runs", table.runs)):
        numbers = "".join(
            f"{counts.get(s, 0) or '.':>{w}}" for s, w in zip(states, columns, strict=True)
        )
        yield f"  {name:{_LABEL - 2}}{numbers}"
    yield from _told("hours", [_hours(table)] if table.hours or table.runs.get("running") else [])
    yield from _told("speed", [_speed(table)] if table.images_per_second else [])
    yield from _told(
        "requeued", [f"{count(n, 'run')} ({why})" for why, n in table.requeued.items()]
    )
    yield from _told("waiting", [_waiting(n, why) for why, n in table.waiting.items()])
    yield from _told("held", [_held(n, why) for why, n in table.held.items()])
    yield from _told("stuck", [_stuck(item) for item in table.stuck[:_MOST]])
    yield from _more(len(table.stuck))
    yield from _told("slow", [_slow(item) for item in table.slow[:_MOST]])
    yield from _more(len(table.slow))
    yield from _groups("failed", table.failures)
    yield from _groups("damaged", table.damaged)
    yield from _groups("stopped", table.stopped)
    if table.changed:
        yield from _told(
            "note", [f"{count(table.changed, 'run')} with other settings than the table's"]
        )


def _from(
    states: Sequence[str], columns: Sequence[int], used: int, label: int
) -> Iterator[tuple[str, int]]:
    """Widths of the heading: a table's name may reach into the first column."""
    for number, (state, width) in enumerate(zip(states, columns, strict=True)):
        yield state, max(len(state) + 1, width + label - used) if number == 0 else width


def _told(label: str, texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f"  {label if number == 0 else '':{_LABEL}}{text}"


def _more(count: int) -> Iterator[str]:
    if count > _MOST:
        yield f"  {'':{_LABEL}}and {count - _MOST} more"


def _hours(table: TableStatus) -> str:
    gpu = table.gpu_hours > 0 or bool(table.gpu_hours_left)
    used, left = (table.gpu_hours, table.gpu_hours_left) if gpu else (table.hours, table.hours_left)
    text = f"{_number(used)} {'GPU-hours' if gpu else 'hours of tasks'} used"
    if table.runs.get("running") or table.runs.get("queued") or table.runs.get("held"):
        text += f", about {_number(left)} left" if left is not None else ", left: not known yet"
    if table.ends is not None:
        text += f"; ends about {_clock(table.ends)} (in {duration(table.ends - time.time())})"
    if table.restarts:
        text += f"; {count(table.restarts, 'restart')}"
    return text


def _speed(table: TableStatus) -> str:
    return f"{table.images_per_second:,.0f} images/s over {count(table.runs['running'], 'run')}"


def _waiting(number: int, why: str) -> str:
    never = re.search(_NEVER, why)
    mend = "; it cannot start so: cancel it, mend the profile, and submit again" if never else ""
    return f"{count(number, 'run')} ({why}){mend}"


def _held(number: int, why: str) -> str:
    by_slurm = why.startswith(HELD_BY_SLURM)
    return f"{count(number, 'run')}: {why}" + ("; `bench resume` releases them" if by_slurm else "")


def _stuck(item: Silent) -> str:
    return f"{item.run}: no sign of life for {duration(item.seconds)} ({item.holder})"


def _slow(item: Silent) -> str:
    return f"{item.run}: {item.progress}, the last {duration(item.seconds)} ago ({item.holder})"


def _groups(label: str, groups: Sequence[FailureGroup]) -> Iterator[str]:
    for number, found in enumerate(groups[:_MOST]):
        yield from _told(
            label if number == 0 else "", [f"{count(len(found.runs), 'run')}: {found.reason}"]
        )
        others = f" and {len(found.runs) - 1} more" if len(found.runs) > 1 else ""
        task = f" (task {found.task})" if found.task else ""
        yield from _told("", [f"  {found.runs[0]}{others}{task}"])
        yield from _told("", [f"  | {line}" for line in found.lines])
    yield from _more(len(groups))


def _number(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2f}"


def _clock(moment: float) -> str:
    then, today = time.localtime(moment), time.localtime()
    same = then.tm_yday == today.tm_yday and then.tm_year == today.tm_year
    return time.strftime("%H:%M" if same else "%a %d %b %H:%M", then)
