"""bench logs, cancel, retry, pause, resume, delete, clean."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_RUNS, DryRun, RunsDir
from benchmark.cli.printing import show, show_parts

OneTable = Annotated[
    str | None, typer.Option("--table", "-t", help="A table that was submitted; all by default.")
]


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="A run's key, or a part of it that no other has.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until it ends.")] = False,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Print the log of the task that trains a run."""
    from benchmark.operate.logs import read_log

    log = read_log(runs, run, follow)
    print(f"==> {log.path}", file=sys.stderr)
    show_parts(log.parts)


@app.command()
def cancel(
    run: Annotated[str | None, typer.Argument(help="A run's key, or a part of it.")] = None,
    table: Annotated[str | None, typer.Option("--table", "-t", help="All of a table.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the runs directory.")] = False,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Cancel what waits or runs; it stays cancelled until it is retried."""
    from benchmark.cli.words.operate import cancelled
    from benchmark.operate.stop import cancel as cancel_runs

    show(*cancelled(cancel_runs(runs, table, run, everything)))


@app.command()
def retry(
    failed: Annotated[bool, typer.Option("--failed", help="What failed or stopped.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="What was cancelled.")] = False,
    table: OneTable = None,
    most: Annotated[
        int,
        typer.Option(
            "--max", min=1, help="Skip runs that failed this many times with the same error."
        ),
    ] = 3,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Another profile than before.")
    ] = None,
    dry_run: DryRun = False,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Submit again, as it was submitted before; shows why it ended."""
    from benchmark.cli.words.retry import lines
    from benchmark.operate.retry import retry as retry_runs

    found = retry_runs(
        runs,
        table,
        failed=failed,
        cancelled=cancelled,
        cap=most,
        profile=profile,
        dry_run=dry_run,
    )
    show(*lines(found))
    raise typer.Exit(found.code)


@app.command()
def pause(table: OneTable = None, runs: RunsDir = DEFAULT_RUNS) -> None:
    """Keep what waits from starting, for maintenance; what runs goes on."""
    from benchmark.cli.words.operate import paused
    from benchmark.operate.stop import pause as pause_runs

    show(*paused(pause_runs(runs, table)))


@app.command()
def resume(table: OneTable = None, runs: RunsDir = DEFAULT_RUNS) -> None:
    """Let what was paused start, and what Slurm holds of its own accord."""
    from benchmark.cli.words.operate import resumed
    from benchmark.operate.stop import resume as resume_runs

    show(*resumed(resume_runs(runs, table)))


@app.command()
def delete(
    run: Annotated[str | None, typer.Argument(help="A run's key, or its folder.")] = None,
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="A table's name or path.")
    ] = None,
    overrides: Annotated[
        bool, typer.Option("--overrides", help="Its runs that differ from the table by more.")
    ] = False,
    dry_run: DryRun = False,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Delete a run, or a table's runs with overrides; exit code 1 if some had to stay."""
    from benchmark.cli.words.operate import deleted
    from benchmark.operate.delete import delete as delete_runs

    done = delete_runs(runs, run, table, overrides=overrides, dry_run=dry_run)
    show(*deleted(done))
    raise typer.Exit(int(bool(done.kept)))


@app.command()
def clean(
    table: OneTable = None,
    drops: Annotated[
        bool, typer.Option("--drops", help="Also checkpoints kept where the rate drops.")
    ] = False,
    answers: Annotated[
        bool, typer.Option("--answers", help="Also what teachers answered; it is asked again.")
    ] = False,
    older_than: Annotated[
        float,
        typer.Option("--older-than", min=0.0, help="Days since a submission was last written to."),
    ] = 7.0,
    dry_run: DryRun = False,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Remove checkpoints of finished runs and folders of ended submissions."""
    from benchmark.cli.words.operate import cleaned
    from benchmark.operate.clean import clean as clean_runs

    done = clean_runs(
        runs, table, drops=drops, answers=answers, older_than=older_than, dry_run=dry_run
    )
    show(*cleaned(done))
