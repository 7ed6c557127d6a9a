"""All commands in one place; each group lives in a file of its own."""

from __future__ import annotations

import importlib
import os

import typer

app = typer.Typer(
    name="bench",
    help="Reproduce the published tables of knowledge distillation, cell by cell.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say what is done, with times."),
) -> None:
    if verbose:
        from benchmark.base.log import be_verbose

        be_verbose()
    if os.environ.get("BENCH_PLUGINS"):
        from benchmark.base.plugin_file import named_plugins
        from benchmark.methods.catalog import add_plugin

        for path in named_plugins():
            add_plugin(path)
    if version:
        from benchmark import __version__

        print(f"bench {__version__}")
        raise typer.Exit


# Importing a group registers its commands.
for _group in (
    "tables",
    "submit",
    "status",
    "jobs",
    "collect",
    "figures",
    "report",
    "compare",
    "evaluate",
    "export",
    "bundle",
    "methods",
    "data",
    "teachers",
    "fill",
    "init",
    "doctor",
):
    importlib.import_module(f"benchmark.cli.{_group}")
