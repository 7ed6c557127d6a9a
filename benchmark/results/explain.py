"""Everything that is known of one cell of a table, in lines for people.

What was published and by whom, ours and the verdict, every option and recipe field with where
its value comes from (`origins.py`), and every run with its commit and hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.words import count
from benchmark.results.assign import Group
from benchmark.results.collect import Collected
from benchmark.results.described import describe
from benchmark.results.grid import Grid, GridCell, MarkKind
from benchmark.results.origins import Origins
from benchmark.results.render import layout
from benchmark.run.directory import RunDir
from benchmark.run.reading import Reading
from benchmark.run.state import ENDED, RunState
from benchmark.table.spec import Column, Row, Table


def explain(table: Table, row: Row, column: Column, collected: Collected, runs_dir: Path) -> str:
    """Return all that is known of the cell in a row and a column; ``collected`` is judged."""
    place = (row.name, column.name)
    lines = [f"{table.name}: {row.name}, {column.name}"]
    teacher, student = row.teacher or column.teacher, row.student or column.student
    lines.append(f"teacher {teacher}, student {student}, dataset {column.dataset or table.dataset}")
    grid = collected.grid
    for metric in table.metrics:
        cell = grid.cell(row.name, column.name, metric)
        if cell is None:
            printed = (
                "nothing is published" if row.reference else "the row does not have this column"
            )
            reason = row.not_run.get(column.name, printed)
            lines.append(f"{metric}: not part of the table ({reason})")
            continue
        lines += [f"{metric}:", *_indented(_published(cell)), *_indented(_ours(grid, cell))]
    shown = [
        choice.shown
        for key, choice in collected.choices.items()
        if key[:2] == place and choice.shown is not None
    ]
    groups = collected.groups.get(place, [])
    slot = next((s for s in collected.slots if (s.row.name, s.column.name) == place), None)
    if slot is not None and slot.variants:
        one = shown[0] if shown else None
        assigned = slot.variants[one.variant].assignment if one else {}
        lines += Origins(table, row, column, one, assigned).lines()
    for group in sorted(groups, key=lambda g: (bool(g.differences), g.variant, g.kind, g.cell)):
        assignment = slot.variants[group.variant].assignment if slot else {}
        lines.append(_heading(group, assignment, group in shown))
        lines += _indented(_run(run, runs_dir) for run in group.runs)
    if not groups and not row.reference:
        lines.append(f"no runs of it in {runs_dir.resolve()}")
    return "\n".join(lines)


def _indented(lines: Any) -> list[str]:
    return [f"  {line}" for line in lines]


# -- numbers --------------------------------------------------------------------------------


def _published(cell: GridCell) -> Iterator[str]:
    entry = cell.published
    if entry is None:
        yield "published: nothing"
        return
    value = "unknown" if entry.value is None else f"{entry.value:g}"
    value += f" ± {entry.std:g}" if entry.std is not None else ""
    value += f" (n = {entry.n})" if entry.n is not None else ""
    yield f"published: {value}, statistic {entry.statistic}; {entry.status}; source: {entry.source}"
    if entry.note:
        yield f"  note: {entry.note}"
    for other in entry.others:
        against = "" if entry.value is None else f" ({other.value - entry.value:+.2f})"
        note = f" ({other.note})" if other.note else ""
        yield f"  another source prints {other.value:g}{against}: {other.source}{note}"
    if cell.expected_miss:
        miss = cell.expected_miss
        yield f"  expected miss: {miss.value:g} comes out instead; {miss.why}"


def _ours(grid: Grid, cell: GridCell) -> Iterator[str]:
    for sample in cell.samples:
        if sample.mean is not None:
            spread = f" ± {sample.std:.2f}" if sample.std is not None else ""
            table = "the table's protocol" if sample.statistic == grid.protocol else "also"
            yield f"ours by {sample.statistic}: {sample.mean:.2f}{spread} ({sample.n}; {table})"
    if cell.seeds:
        yield f"seeds: {', '.join(map(str, cell.seeds))} ({cell.planned} planned)"
    yield f"state: {cell.state}" + (f"; verdict: {cell.verdict}" if cell.verdict else "")
    for found in cell.comparisons:
        interval = ""
        if found.low is not None and found.high is not None:
            interval = f" [{found.low:+.2f}, {found.high:+.2f}]"
        delta = f"{found.delta:+.2f}{interval}"
        p = "" if found.p is None else f", Holm's p = {found.p:.2g}"
        words = layout.verdict_words(found)
        yield f"  by {found.statistic}: {delta}{p}, {words}; {found.noise}"
    yield from _assumptions(cell)
    if cell.overrides:
        yield f"overrides: {'; '.join(cell.overrides)}"
    for mark in cell.marks:
        if mark.kind is not MarkKind.OVERRIDE:
            word = "assumed" if mark.kind is MarkKind.ASSUMED else "note"
            yield f"{word}: {mark.text}"


def _assumptions(cell: GridCell) -> Iterator[str]:
    """Yield the verdict under every other assumption."""
    judged = cell.judgement
    if judged is None:
        return
    if judged.condition:
        yield f"  {judged.condition}"
    for name, word in judged.sensitivity:
        changed = " (changes)" if name in judged.fragile else ""
        yield f"  if {name}: {word}{changed}"


# -- runs -----------------------------------------------------------------------------------


def _heading(group: Group, assignment: Mapping[str, Any], shown: bool) -> str:
    told = "; ".join(describe(group)) or "the table's own"
    told += f"; {group.kind}" if group.kind else ""
    if assignment:
        told += "; " + ", ".join(f"{name} = {value}" for name, value in assignment.items())
    return f"{'shown' if shown else 'not shown'}: runs of {group.cell} ({told})"


def _run(run: Reading, runs_dir: Path) -> str:
    if run.state is RunState.DAMAGED:
        return f"{run.key}: damaged, not counted: {run.reason}"
    if run.state not in ENDED:
        return f"{run.key}: {run.state}{_standing(run)}"
    try:
        result = RunDir(runs_dir, run.key).read_result()
    except UserError as error:
        return f"{run.key}: {error}"
    value = (
        "diverged"
        if run.state is RunState.DIVERGED
        else f"last {run.value('top1', 'last'):.2f} % accuracy"
    )
    parts = [value, f"seed {run.seed}", *_provenance(result)]
    parts += [f"teacher file {run.teacher_file}"] if run.teacher_file else []
    return f"{run.key}: {', '.join(parts)}"


def _provenance(result: Mapping[str, Any]) -> list[str]:
    """Return commit, hardware, versions and times; whatever is not there is unknown."""
    origin = result.get("provenance")
    origin = origin if isinstance(origin, Mapping) else {}
    versions = origin.get("versions")
    torch = versions.get("torch", "unknown") if isinstance(versions, Mapping) else "unknown"
    commit = str(origin.get("commit") or "unknown")[:12]
    parts = [
        f"commit {commit}" + (" with changes" if origin.get("dirty") else ""),
        str(origin.get("gpu") or origin.get("cpu") or "unknown hardware"),
        f"on {origin.get('host', 'unknown host')}",
        f"torch {torch}",
    ]
    seconds, restarts = result.get("seconds"), result.get("restarts")
    parts += [f"{seconds:.0f} s"] if isinstance(seconds, int | float) else []
    parts += [count(restarts, "restart")] if isinstance(restarts, int) and restarts else []
    parts += [f"job {origin['slurm_job']}"] if origin.get("slurm_job") else []
    return parts


def _standing(run: Reading) -> str:
    """Return how far an unfinished run is, and why its last attempt ended."""
    told = f", {run.progress.epoch} epochs done" if run.progress else ""
    return told + (f", last attempt: {run.reason}" if run.reason else "")
