"""Write a dataset: two .beton files and their sidecar, complete or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, replacing, write_json
from benchmark.base.inside import unlink
from benchmark.data.datasets import DatasetInfo, dataset_info
from benchmark.data.digest import Tally, dataset_digest
from benchmark.data.fetch import download_folder
from benchmark.data.formats import MAX_PAGE, MIN_PAGE, write_beton
from benchmark.data.sidecar import (
    Sidecar,
    Split,
    SplitName,
    WriteSettings,
    read_sidecar,
    sidecar_path,
    split_path,
)
from benchmark.data.sources.cifar import FOLDERS, cifar_folder, cifar_source
from benchmark.data.sources.digits import digits_source
from benchmark.data.sources.folders import folder_source, has_class_folders
from benchmark.data.sources.source import Source

# Full-size photographs need room: an image never crosses a page.
_JPEG_PAGE = 1 << 25
_ABANDONED_SECONDS = 3600.0

Progress = Callable[[SplitName, int, int], None]
Tallies = dict[SplitName, tuple[Tally, int]]
Describe = Callable[[Source, WriteSettings, Tallies], Sidecar]


def write_dataset(
    name: str,
    source: Path | None,
    data_dir: Path,
    allow_altered: bool = False,
    *,
    overwrite: bool = False,
    storage: Literal["raw", "jpeg"] | None = None,
    max_resolution: int | None = None,
    jpeg_quality: int = 90,
    workers: int = 1,
    progress: Progress = lambda split, done, total: None,
    note: Callable[[str], None] = lambda line: None,
) -> Sidecar:
    """Write the dataset ``name`` from ``source`` into ``data_dir``/``name``; return its sidecar.

    ``source`` None: scikit-learn's own digits, or what ``bench data fetch`` left in ``data_dir``.
    CIFAR is stored raw, class folders as JPEG unless ``storage`` says otherwise;
    ``max_resolution`` bounds the longest side and ``jpeg_quality`` holds if an image must be
    encoded. Writing the same content again changes nothing. ``progress`` is called after every
    image with the split's name, the images done and all of the split, ``note`` with a line on what
    was passed over.

    Raises UserError for unusable sources; for data that is not the official one unless
    ``allow_altered`` (it is then recorded, and becomes part of the keys of its runs); for other
    data that is already there unless ``overwrite``; and for a full disk, with nothing changed.
    """
    info = dataset_info(name)
    write = _settings(info, source, storage, max_resolution, jpeg_quality)
    found = _open(info, source, data_dir, write, workers)
    if found.altered and not allow_altered:
        raise UserError(
            f"this is not the official {name}: {found.altered};"
            " to use it anyway, and have its results say so, add --allow-altered"
        )
    for line in found.notes:
        note(line)
    folder = sidecar_path(name, data_dir).parent
    make_directory(folder)
    remove_abandoned(folder)
    try:
        return write_source(
            name, found, write, data_dir, overwrite, progress, partial(_sidecar, info)
        )
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def _settings(
    info: DatasetInfo,
    source: Path | None,
    storage: Literal["raw", "jpeg"] | None,
    max_resolution: int | None,
    jpeg_quality: int,
) -> WriteSettings:
    if info.kind != "folders" and (storage == "jpeg" or max_resolution is not None):
        raise UserError(f"{info.name} is stored raw at its own size")
    if max_resolution is not None and max_resolution < 1:
        raise UserError(f"the longest side must be at least 1 pixel, not {max_resolution}")
    if not 1 <= jpeg_quality <= 100:
        raise UserError(f"JPEG quality goes from 1 to 100, not {jpeg_quality}")
    chosen = storage or ("jpeg" if info.kind == "folders" else "raw")
    return WriteSettings(
        storage=chosen,
        max_resolution=max_resolution,
        jpeg_quality=jpeg_quality if chosen == "jpeg" else None,
    )


def _open(
    info: DatasetInfo, source: Path | None, data_dir: Path, write: WriteSettings, workers: int
) -> Source:
    if info.kind == "digits":
        if source is not None:
            raise UserError("digits come with scikit-learn and take no source")
        return digits_source()
    if info.kind == "folders":
        if source is None:
            raise UserError(f"{info.name} needs the folder of its images: {info.write_command}")
        return folder_source(info, source, write, workers)
    path = source or download_folder(data_dir)
    pickles = cifar_folder(info, path)
    if pickles is not None:
        return cifar_source(info, pickles)
    if info.name == "cifar10" and has_class_folders(path):
        return folder_source(info, path, write, workers)
    raise UserError(
        f"no {info.name} in {path} (searched for {FOLDERS[info.name]}/{info.files[0][0]} and its"
        f" like); get it with: bench data fetch {info.name}"
    )


def write_source(
    name: str,
    source: Source,
    write: WriteSettings,
    data_dir: Path,
    overwrite: bool,
    progress: Progress,
    describe: Describe,
) -> Sidecar:
    """Write all images and what ``describe`` says of them, complete or not at all.

    Raises UserError for other data that is already there unless ``overwrite``.
    """
    page_size = _page_size(source, write)
    target = sidecar_path(name, data_dir)
    tallies: Tallies = {}
    with ExitStack() as files:
        for split, content in source.splits.items():
            tally = Tally(partial(progress, split), content.num_samples)
            file = files.enter_context(replacing(split_path(name, data_dir, split)))
            length = write_beton(
                file, tally.watch(content.samples()), content.num_samples, page_size
            )
            tallies[split] = (tally, length)
        sidecar = describe(source, write, tallies)
        old = read_sidecar(name, data_dir)
        changed = old is not None and (old.digest, old.own) != (sidecar.digest, sidecar.own)
        if old is not None and changed and not overwrite:
            raise UserError(
                f"{target.parent} holds other {name} data (digest {old.digest[7:19]}, this is"
                f" {sidecar.digest[7:19]}); to replace it, add --overwrite"
            )
        # Without its sidecar a dataset does not exist: a crash between two renames leaves none
        # behind rather than a mixture.
        unlink(target)
    write_json(target, sidecar.to_json())
    return sidecar


def split_records(tallies: Tallies) -> dict[SplitName, Split]:
    """Return what is recorded of each split that was written."""
    return {
        split: Split(
            num_samples=tally.count, bytes=length, digest=tally.digest(), turned=tally.turned
        )
        for split, (tally, length) in tallies.items()
    }


def _page_size(source: Source, write: WriteSettings) -> int:
    """Return a power of two that holds every image: one never crosses a page."""
    smallest = _JPEG_PAGE if write.storage == "jpeg" else MIN_PAGE
    largest = max(split.largest for split in source.splits.values())
    return min(MAX_PAGE, max(smallest, 1 << (largest - 1).bit_length() if largest else 0))


def remove_abandoned(folder: Path) -> None:
    """Remove what a killed writer left; a living one writes to its file all the time."""
    for path in folder.glob(".*.beton.*.tmp"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            unlink(path)


def _sidecar(
    info: DatasetInfo,
    source: Source,
    write: WriteSettings,
    tallies: Tallies,
) -> Sidecar:
    splits = split_records(tallies)
    sizes = {size for tally, _ in tallies.values() for size in tally.sizes}
    own_size = (info.image_size, info.image_size)
    if info.kind != "folders" and sizes != {own_size}:
        raise UserError(f"images of {info.name} must be {own_size[0]}x{own_size[1]} pixels")
    digest = dataset_digest({split: record.digest for split, record in splits.items()})
    altered = source.altered
    if info.kind == "digits" and digest != info.official_digest:
        altered = f"scikit-learn's digits have changed (digest {digest})"
    return Sidecar(
        name=info.name,
        official=altered is None,
        altered=altered,
        num_classes=len(source.classes),
        image_size=sizes.pop() if len(sizes) == 1 else None,
        classes=source.classes,
        write=write,
        sources=source.checksums,
        splits=splits,
        digest=digest,
    )
