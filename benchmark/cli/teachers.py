"""bench teachers: list, fetch, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_DATA, DataDir

teachers_app = typer.Typer(help="Public teacher checkpoints.", no_args_is_help=True)
app.add_typer(teachers_app, name="teachers")

Model = Annotated[str | None, typer.Argument(help="A network; all of them by default.")]
Dataset = Annotated[str, typer.Option("--dataset", help="The dataset they were trained on.")]

OneDataset = Annotated[str | None, typer.Option("--dataset", help="Only those of this dataset.")]


@teachers_app.command("list")
def list_(dataset: OneDataset = None) -> None:
    """List the known checkpoints and which of them are on this machine."""
    from benchmark.table.teachers import describe_teachers

    print(describe_teachers(dataset))


@teachers_app.command()
def fetch(model: Model = None, dataset: Dataset = "cifar100") -> None:
    """Download checkpoints that are not there."""
    from benchmark.table.teacher_download import fetch_teachers

    for line in fetch_teachers(dataset, model):
        print(line)


@teachers_app.command()
def verify(
    model: Model = None, dataset: Dataset = "cifar100", data: DataDir = DEFAULT_DATA
) -> None:
    """Measure the checkpoints that are there against their published accuracy."""
    from benchmark.train.verify import verify_teachers

    good = True
    for line, fine in verify_teachers(dataset, model, data):
        print(line)
        good = good and fine
    raise typer.Exit(0 if good else 1)
