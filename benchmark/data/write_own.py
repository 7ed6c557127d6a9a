"""Write a dataset of the user's own: class folders or arrays, with what else a run must know."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory
from benchmark.data.datasets import is_own_name
from benchmark.data.digest import dataset_digest
from benchmark.data.moments import Moments, Triple
from benchmark.data.sidecar import Sidecar, WriteSettings, sidecar_path
from benchmark.data.sources.arrays import array_files, array_source
from benchmark.data.sources.own_folders import common_side, list_own, own_source
from benchmark.data.sources.source import Source, SourceSplit
from benchmark.data.write import (
    Progress,
    Tallies,
    remove_abandoned,
    split_records,
    write_source,
)
from benchmark.table.own_data import OwnData

# What networks see of photographs of any size: recipes of ImageNet cut it.
_CUT = 224


def write_own(
    name: str,
    path: Path,
    data_dir: Path,
    *,
    mean: Triple | None = None,
    std: Triple | None = None,
    side: int | None = None,
    test_fraction: float | None = None,
    storage: str | None = None,
    max_resolution: int | None = None,
    jpeg_quality: int = 90,
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = lambda split, done, total: None,
    note: Callable[[str], None] = lambda line: None,
) -> Sidecar:
    """Write the images below ``path`` as the dataset ``name``; return its sidecar.

    ``mean`` and ``std`` are those of the training images unless given. Squares of one small size
    are stored as pixels, others as JPEG unless ``side`` makes them squares of that side;
    ``test_fraction`` of each class is set aside if there are no test images. Further options
    are those of :func:`benchmark.data.write.write_dataset`.

    Raises UserError for unusable names and sources, and for other data that is there already
    unless ``overwrite``.
    """
    if not is_own_name(name):
        raise UserError(
            f"'{name}' cannot be the name of data of your own: it is taken, or holds more than"
            " letters, digits, '.', '_' and '-'"
        )
    if (mean is None) != (std is None):
        raise UserError("--mean and --std go together")
    if std is not None and min(std) <= 0:
        raise UserError("--std must be positive")
    if side is not None and side < 1:
        raise UserError(f"--size must be at least 1 pixel, not {side}")
    if not path.exists():
        raise UserError(f"{path} does not exist")
    files = array_files(path)
    if files:
        if side is not None or storage == "jpeg" or max_resolution is not None:
            raise UserError("arrays are stored as they are: no --size, --storage, --max-resolution")
        write = WriteSettings(storage="raw")
        source = array_source(files, test_fraction)
    elif path.is_file():
        raise UserError(f"{path} is neither a folder nor arrays (.npz, .pkl, .pickle)")
    else:
        splits = list_own(path, test_fraction)
        small = storage is None and max_resolution is None and common_side(splits) is not None
        raw = storage == "raw" or (storage is None and (side is not None or small))
        write = WriteSettings(
            storage="raw" if raw else "jpeg",
            max_resolution=max_resolution,
            jpeg_quality=None if raw else jpeg_quality,
            side=side,
        )
        source = own_source(path, splits, write, workers)
    for line in source.notes:
        note(line)
    moments = Moments()
    if mean is None:
        train = source.splits["train"]
        watched = SourceSplit(
            train.num_samples, lambda: moments.watch(train.samples()), train.largest
        )
        source = replace(source, splits={**source.splits, "train": watched})
    folder = sidecar_path(name, data_dir).parent
    make_directory(folder)
    remove_abandoned(folder)

    def describe(source: Source, write: WriteSettings, tallies: Tallies) -> Sidecar:
        given = (mean, std) if mean is not None and std is not None else moments.mean_std()
        return _sidecar(name, source, write, tallies, *given)

    try:
        return write_source(name, source, write, data_dir, overwrite, progress, describe)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def _sidecar(
    name: str, source: Source, write: WriteSettings, tallies: Tallies, mean: Triple, std: Triple
) -> Sidecar:
    sizes = {size for tally, _ in tallies.values() for size in tally.sizes}
    one = sizes.pop() if len(sizes) == 1 else None
    if write.storage == "raw" and (one is None or one[0] != one[1]):
        raise UserError(
            "images stored as pixels must be squares of one size; make them so with --size 64, or"
            " store photographs with --storage jpeg"
        )
    splits = split_records(tallies)
    own = OwnData(
        num_classes=len(source.classes),
        image_size=one[0] if one is not None and write.storage == "raw" else _CUT,
        mean=mean,
        std=std,
        num_train=splits["train"].num_samples,
        num_test=splits["test"].num_samples,
    )
    return Sidecar(
        name=name,
        official=False,
        altered="data of your own",
        num_classes=own.num_classes,
        image_size=one,
        classes=source.classes,
        write=write,
        sources=source.checksums,
        splits=splits,
        digest=dataset_digest({split: record.digest for split, record in splits.items()}),
        own=own,
    )


# -- for the command line ------------------------------------------------------------------


def check_alone(path: str, further: Path | None) -> Path:
    """Return where data of one's own lies; UserError for two places."""
    if further is not None:
        raise UserError(f"with --dataset there is one folder or file, not {path} and {further}")
    return Path(path)


def check_own_only(options: list[str]) -> None:
    """Refuse options that only data of one's own has."""
    if options:
        raise UserError(f"{', '.join(options)}: only with --dataset NAME, for data of your own")


def numbers(option: str, text: str | None) -> Triple | None:
    """Read ``0.5,0.5,0.5``, or one number for all channels; UserError for anything else."""
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) == 1:
        found *= 3
    if len(found) != 3 or not all(math.isfinite(value) for value in found):
        raise UserError(f"{option} {text}: expected a number, or three as in 0.5,0.5,0.5")
    return found[0], found[1], found[2]


def describe_own(sidecar: Sidecar, data_dir: Path) -> str:
    """Return what was written, for people."""
    assert sidecar.own is not None
    own, values = sidecar.own, ("mean", "std")
    said = [f"{v} {', '.join(f'{x:g}' for x in getattr(own, v))}" for v in values]
    where = sidecar_path(sidecar.name, data_dir).parent
    return (
        f"{sidecar.name}: {own.num_classes} classes, {sidecar.images} ({sidecar.write.storage},"
        f" {own.image_size} pixels a side, {', '.join(said)}) in {where}"
    )
