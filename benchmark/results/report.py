"""What ``bench collect`` does: fill a table, judge it, write it, show it, explain a cell."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from benchmark.errors import UserError, unknown
from benchmark.files import make_directory, read_json, write_text
from benchmark.results.collect import Collected, collect, describe
from benchmark.results.grid import Grid, State
from benchmark.results.index import RunIndex
from benchmark.results.judge import judge
from benchmark.results.render import csv, json, latex, layout, markdown
from benchmark.rundir import RunDir
from benchmark.runs import SCHEMA
from benchmark.selection import Selection
from benchmark.spec import Protocol, Table
from benchmark.tables import load_table

FORMATS = ("md", "tex", "csv", "json")


def collect_table(
    name: str,
    chosen: Selection,
    *,
    runs_dir: Path,
    formats: str | None = None,
    protocol: str | None = None,
    also: str | None = None,
    siunitx: bool = False,
    out: Path = Path("results"),
) -> str:
    """Write a table's files and return what is printed.

    A single ``csv`` or ``json`` is returned alone, and no file is written. Raises UserError for
    unknown formats and protocols.
    """
    wanted = _formats(formats)
    for given in (protocol, also):
        if given is not None and given not in get_args(Protocol):
            raise unknown("protocol", given, get_args(Protocol), "--protocol")
    table = load_table(name)
    collected = _collect(table, chosen, runs_dir, protocol)
    grid = judge(collected.grid)
    _warn(collected, runs_dir)
    if formats is not None and wanted in (["csv"], ["json"]):
        return csv.render(grid) if wanted == ["csv"] else json.render(grid)
    statistics = [grid.protocol, *([also] if also and also != grid.protocol else [])]
    forms: tuple[Any, ...] = ("paper", "side_by_side")
    make_directory(out)
    written = []
    for kind in wanted:
        path = out / f"{table.name}.{kind}"
        text = {
            "md": lambda: markdown.render(grid, forms, statistics),
            "tex": lambda: latex.render(grid, forms, statistics, siunitx=siunitx, document=True),
            "csv": lambda: csv.render(grid),
            "json": lambda: json.render(grid),
        }[kind]()
        write_text(path, text)
        written.append(str(path))
    return f"{show(grid)}\nwritten: {', '.join(written)}\n"


def _collect(table: Table, chosen: Selection, runs_dir: Path, protocol: str | None) -> Collected:
    index = RunIndex(runs_dir)
    index.refresh()
    command = shlex.join(["bench", *sys.argv[1:]]) if sys.argv[0].endswith("bench") else ""
    collected = collect(table, index, chosen, protocol, made_by=command)
    if not index.count():
        print(f"no runs in {runs_dir.resolve()}", file=sys.stderr)
    return collected


def _warn(collected: Collected, runs_dir: Path) -> None:
    problems = collected.problems
    if problems:
        print(f"{len(problems)} run directories in {runs_dir} are not counted:", file=sys.stderr)
        for line in problems[:5]:
            print(f"  {line}", file=sys.stderr)
        if len(problems) > 5:
            print(f"  and {len(problems) - 5} more", file=sys.stderr)


def _formats(text: str | None) -> list[str]:
    names = [part.strip() for part in (text or "md,tex").split(",") if part.strip()]
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS, "--format")
    if not names:
        raise UserError(f"--format is empty (valid: {', '.join(FORMATS)})")
    return names


def show(grid: Grid) -> str:
    """Return the filled table for a terminal: rows x columns, ours, the published value below."""
    marks = layout.footnotes(grid)
    shown = RichTable(header_style="bold")
    shown.add_column("")
    leaves = layout.leaves(grid, (grid.protocol,))
    for leaf in leaves:
        label = f"{leaf.column.teacher_label}\n{leaf.column.student_label}"
        if len(grid.metrics) > 1:
            label += f"\n{layout.metric_label(leaf.metric)}"
        shown.add_column(label, justify="right")
    for group, rows in layout.grouped(grid.rows):
        del group
        for row in rows:
            cells = [_terminal_cell(grid, row.name, leaf, marks) for leaf in leaves]
            shown.add_row(row.name, *cells, end_section=row is rows[-1])
    # Wide enough for every column: a table that wraps its numbers cannot be read.
    console = Console(width=max(80, 24 + 22 * len(leaves)), force_terminal=None)
    with console.capture() as capture:
        console.print(Text(grid.title, style="bold"))
        console.print(shown)
        console.print(Text(layout.summary(grid)))
        for line in layout.shouted(grid):
            console.print(Text(line), style="bold")
    return capture.get()


def _terminal_cell(grid: Grid, row: str, leaf: Any, marks: Any) -> Text:
    cell = grid.cell(row, leaf.column.name, leaf.metric)
    if cell is None:
        return Text("-", style="dim")
    best = row in layout.best(grid, leaf)
    text = Text()
    if cell.mean is None:
        text.append(str(cell.state), style="dim")
    else:
        text.append(f"{cell.mean:.{grid.decimals}f}", style="bold" if best else "")
        if cell.std is not None:
            text.append(f" ± {cell.std:.{grid.decimals}f}")
        text.append(f" ({cell.n})", style="dim")
        if cell.state in (State.RUNNING, State.PARTIAL, State.FAILED):
            text.append(f" {cell.state}", style="dim")
        if cell.overrides:
            text.append(" *", style="yellow")
    if cell.published_value is not None:
        text.append(f"\n{cell.published_value:.{grid.decimals}f}", style="dim")
        if cell.verdict is not None and cell.delta is not None:
            text.append(f" {cell.delta:+.{grid.decimals}f} {cell.verdict}", style="dim")
    return text


def explain_cell(
    name: str, row: str, column: str, *, runs_dir: Path, protocol: str | None = None
) -> str:
    """Return all that is known of one cell: runs, overrides, options and their sources.

    Raises UserError for a row or column that the table does not have.
    """
    table = load_table(name)
    table.row(row)
    table.column(column)
    collected = _collect(table, Selection(), runs_dir, protocol)
    grid = judge(collected.grid)
    lines = [f"{table.name}: {row}, {column}"]
    for metric in table.metrics:
        cell = grid.cell(row, column, metric)
        if cell is None:
            lines.append(f"{metric}: not part of the table")
            continue
        lines += _explain_published(cell, metric)
        if cell.mean is not None:
            spread = f" ± {cell.std:.2f}" if cell.std is not None else ""
            lines.append(f"{metric} ours: {cell.mean:.2f}{spread} over {cell.n} runs")
        lines.append(f"{metric} verdict: {cell.verdict or cell.state}")
        lines += [
            f"  {c.statistic}: {c.delta:+.2f}, {c.verdict}; {c.noise}" for c in cell.comparisons
        ]
        lines += [f"  {mark.text}" for mark in cell.marks]
    lines += _explain_options(table, row, column)
    for group in collected.groups.get((row, column), []):
        told = ", ".join(describe(group.differences)) or "the table's own"
        lines.append(f"runs of {group.cell} ({told}):")
        for run in group.runs:
            lines.append(f"  {_explain_run(RunDir(runs_dir, run.key), run.state)}")
    if not collected.groups.get((row, column)):
        lines.append(f"no runs in {runs_dir.resolve()}")
    return "\n".join(lines)


def _explain_published(cell: Any, metric: str) -> list[str]:
    if cell.published is None:
        return [f"{metric} published: nothing"]
    entry = cell.published
    value = "unknown" if entry.value is None else f"{entry.value:g}"
    lines = [f"{metric} published: {value} ({entry.source}; {entry.status}; {entry.statistic})"]
    lines += [f"  {other.source} prints {other.value:g}" for other in entry.others]
    lines += [f"  {entry.note}"] if entry.note else []
    return lines


def _explain_options(table: Table, row_name: str, column: str) -> list[str]:
    """Every resolved option with where its value comes from."""
    from benchmark.methods.catalog import method_info

    row = table.row(row_name)
    lines = []
    for use in row.methods:
        own = row.per_column.get(column, {}).get(use.name, {})
        info = method_info(use.name, f"table {table.name}")
        given = {**use.options, **own}
        assumed = {
            a.option: a.note for a in row.assumed if a.columns is None or column in a.columns
        }
        for option, value in info.resolve(given, f"table {table.name}").items():
            name = f"{use.name}.{option}"
            if name in assumed:
                origin = f"assumed: {assumed[name]}"
            elif name in row.grid:
                origin = f"a grid of {list(row.grid[name])}"
            elif option in own:
                origin = f"this column's; {row.sources.get(name, 'the table file')}"
            elif option in use.options:
                origin = f"this row's; {row.sources.get(name, 'the table file')}"
            else:
                origin = row.sources.get(name, "the method's default")
            lines.append(f"option {name} = {value} ({origin})")
    return lines


def _explain_run(rundir: RunDir, state: str) -> str:
    if state not in ("done", "diverged"):
        return f"{rundir.key}: {rundir.state()}"
    try:
        result = read_json(rundir.result, SCHEMA)
    except UserError as error:
        return f"{rundir.key}: {error}"
    origin = result.get("provenance", {})
    last = result["metrics"].get("top1", {}).get("last")
    value = "diverged" if result["diverged"] else f"{last:.2f} %"
    commit = (origin.get("commit") or "unknown")[:10] + ("+changes" if origin.get("dirty") else "")
    where = origin.get("gpu") or origin.get("cpu") or "unknown hardware"
    job = f", job {origin['slurm_job']}" if origin.get("slurm_job") else ""
    return (
        f"{rundir.key}: {value}, seed {result['seed']}, commit {commit}, {where},"
        f" torch {origin.get('versions', {}).get('torch')}, {result['seconds']:.0f} s,"
        f" {result['restarts']} restarts{job}"
    )
