"""bench collect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    DEFAULT_RUNS,
    Only,
    Plugins,
    Protocol,
    RunsDir,
    Seeds,
    TableName,
    add_plugins,
    selection,
)
from benchmark.cli.printing import show


@app.command()
def collect(
    table: TableName,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="md, tex, csv, json, parquet; csv or json alone is printed without --out.",
        ),
    ] = None,
    protocol: Protocol = None,
    also: Annotated[
        str | None, typer.Option("--also", help="A second protocol to set beside the first.")
    ] = None,
    siunitx: Annotated[bool, typer.Option("--siunitx", help="Align numbers in LaTeX.")] = False,
    explain: Annotated[
        tuple[str, str] | None,
        typer.Option("--explain", metavar="ROW COLUMN", help="Say where a cell comes from."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the files go.", show_default="results")
    ] = None,
    runs_rows: Annotated[
        bool, typer.Option("--runs-rows", help="As CSV: a line a run; with --out epochs too.")
    ] = False,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="LaTeX that compiles as it is, not to \\input.")
    ] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Every combination as a line: md, tex, csv, json.")
    ] = False,
    only: Only = None,
    seeds: Seeds = None,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Fill a table from runs, beside the published numbers, with a verdict for every cell."""
    from benchmark.base.errors import UserError
    from benchmark.base.log import say
    from benchmark.results.report import ALONE, explain_cell, make_report, parse_formats

    add_plugins(plugin)
    chosen = selection(only, seeds, None)
    if explain is not None:
        options = {
            "--format": formats,
            "--also": also,
            "--siunitx": siunitx,
            "--standalone": standalone,
            "--runs-rows": runs_rows,
            "--out": out,
        }
        given = [name for name, value in options.items() if value]
        if given:
            raise UserError(f"--explain prints text and does not go with {', '.join(given)}")
        show(explain_cell(table, *explain, chosen, runs_dir=runs, protocol=protocol))
        return
    if sweep:
        from benchmark.results.render.sweep import print_sweep

        print(print_sweep(table, runs, chosen, protocol, formats, out))
        return
    wanted = parse_formats(formats)
    if runs_rows and "csv" not in wanted:
        raise UserError("--runs-rows goes with --format csv; parquet always holds runs and epochs")
    report = make_report(
        table,
        chosen,
        runs_dir=runs,
        protocol=protocol,
        also=also,
        siunitx=siunitx,
        standalone=standalone,
    )
    say(*report.notes)
    if len(wanted) == 1 and wanted[0] in ALONE and out is None:
        text = report.rows().to_csv(index=False) if runs_rows else report.text(wanted[0])
        print(text, end="")
        return
    written = report.write(wanted, out or Path("results"), runs_rows)
    print(report.shown())
    print(f"written: {', '.join(map(str, written))}")
