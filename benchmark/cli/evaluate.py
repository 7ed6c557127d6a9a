"""bench evaluate."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    AsJson,
    DataDir,
    Plugins,
    RunsDir,
    add_plugins,
)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run's key, or its folder.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Other data; the run's own by default.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Measure a trained network; exit code 1 if it is not what its run recorded."""
    from benchmark.run.directory import find_run
    from benchmark.train.evaluate_run import (
        describe_evaluation,
        evaluate_run,
        evaluation_to_json,
    )

    add_plugins(plugin)
    found = evaluate_run(find_run(run, runs), data, dataset, device)
    text = json.dumps(evaluation_to_json(found), indent=1) if as_json else None
    print(text or describe_evaluation(found))
    raise typer.Exit(0 if found.agrees else 1)
