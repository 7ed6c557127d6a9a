"""bench data: fetch, write, verify, info."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_DATA, DataDir


class Storage(StrEnum):
    """How images are stored in a .beton file."""

    raw = "raw"
    jpeg = "jpeg"


data_app = typer.Typer(help="Datasets: download, write, verify.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Name = Annotated[str, typer.Argument(help="digits, cifar10, cifar100, imagenet, ...")]


@data_app.command()
def fetch(name: Name, data: DataDir = DEFAULT_DATA) -> None:
    """Download the official archive of a dataset."""
    from benchmark.data.fetch import fetch as run

    print(f"{name} lies in {run(name, data)}; next: bench data write {name}")


@data_app.command()
def write(
    name: Annotated[
        str, typer.Argument(help="digits, cifar10, ...; with --dataset the folder or file.")
    ],
    source: Annotated[
        Path | None,
        typer.Argument(help="The folder of the official files; what was fetched if left out."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="The name of data of your own: class folders or arrays."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", help="Of your own data, as 0.5,0.5,0.5, or computed.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", help="Likewise.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Make your own images squares of this side.")
    ] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option("--test-fraction", help="Set this part of each of your own classes aside."),
    ] = None,
    allow_altered: Annotated[
        bool,
        typer.Option("--allow-altered", help="Accept a subset or altered files, and record it."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other data of that name.")
    ] = False,
    storage: Annotated[
        Storage | None,
        typer.Option("--storage", help="raw or jpeg; what suits the source if left out."),
    ] = None,
    max_resolution: Annotated[
        int | None, typer.Option("--max-resolution", help="Bound the longest side of images.")
    ] = None,
    jpeg_quality: Annotated[
        int, typer.Option("--jpeg-quality", min=1, max=100, help="Of images that are encoded anew.")
    ] = 90,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that read and encode.")
    ] = 1,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Write a dataset as .beton files with a sidecar."""
    from benchmark.cli.progress import progress_line
    from benchmark.data.sidecar import sidecar_path
    from benchmark.data.write import write_dataset
    from benchmark.data.write_own import (
        check_alone,
        check_own_only,
        describe_own,
        numbers,
        write_own,
    )

    note = partial(print, file=sys.stderr)
    if dataset is not None:
        sidecar = write_own(
            dataset,
            check_alone(name, source),
            data,
            mean=numbers("--mean", mean),
            std=numbers("--std", std),
            side=size,
            test_fraction=test_fraction,
            storage=None if storage is None else storage.value,
            max_resolution=max_resolution,
            jpeg_quality=jpeg_quality,
            overwrite=overwrite,
            workers=workers,
            progress=progress_line(dataset),
            note=note,
        )
        _said(describe_own(sidecar, data), sidecar.notes)
        return
    own_only = {"--mean": mean, "--std": std, "--size": size, "--test-fraction": test_fraction}
    check_own_only([option for option, value in own_only.items() if value is not None])
    sidecar = write_dataset(
        name,
        source,
        data,
        allow_altered,
        overwrite=overwrite,
        storage=None if storage is None else storage.value,
        progress=progress_line(name),
        note=note,
        max_resolution=max_resolution,
        jpeg_quality=jpeg_quality,
        workers=workers,
    )
    kind = "official" if sidecar.official else f"altered: {sidecar.altered}"
    where = sidecar_path(name, data).parent
    _said(f"{name}: {sidecar.images} ({kind}) in {where}", sidecar.notes)


def _said(line: str, notes: tuple[str, ...]) -> None:
    print(line)
    for note in notes:
        print(note, file=sys.stderr)


@data_app.command()
def verify(name: Name, data: DataDir = DEFAULT_DATA) -> None:
    """Recompute a dataset's digests and decode every image."""
    from benchmark.data.verify import verify as run

    sidecar = run(name, data)
    print(f"{name}: {sidecar.images}, digest {sidecar.digest}, ok")


@data_app.command()
def info(name: Name, data: DataDir = DEFAULT_DATA) -> None:
    """Print what is known of a dataset, as JSON."""
    from benchmark.data.verify import info as run

    print(json.dumps(run(name, data), indent=1))
