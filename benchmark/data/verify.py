"""Check a dataset on disk from end to end, and say what it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data.datasets import (
    dataset_identity,
    dataset_info,
    require_dataset,
    write_command,
)
from benchmark.data.digest import layout_digest
from benchmark.data.formats import JPEG, Bytes, Layout, read_layout
from benchmark.data.sidecar import Sidecar, SplitName, read_sidecar, sidecar_path, split_path

# Larger files take longer to read than a submission should.
_READ_THROUGH = 1 << 30


def open_layout(sidecar: Sidecar, data_dir: Path, split: SplitName) -> Layout:
    """Return the checked layout of one split; UserError if it does not fit its sidecar."""
    layout = read_layout(split_path(sidecar.name, data_dir, split))
    expected = sidecar.splits[split].num_samples
    if layout.num_samples != expected:
        raise UserError(
            f"{layout.path} holds {layout.num_samples} images, dataset.json says {expected};"
            f" {_again(sidecar, data_dir)}"
        )
    if layout.labels.max() >= sidecar.num_classes:
        raise UserError(
            f"{layout.path} has label {int(layout.labels.max())}, but {sidecar.name} has"
            f" {sidecar.num_classes} classes"
        )
    return layout


def check_digest(
    sidecar: Sidecar, layout: Layout, split: SplitName, pixels: Bytes | None = None
) -> None:
    """Raise UserError if the content is not what the sidecar says."""
    if layout_digest(layout, pixels) != sidecar.splits[split].digest:
        raise UserError(
            f"{layout.path} was changed after it was written (its digest is another);"
            f" {_again(sidecar, layout.path.parents[1])}"
        )


def _again(sidecar: Sidecar, data_dir: Path) -> str:
    command = write_command(sidecar.name)
    return f"write it again with: {command} --data {data_dir}"


def verify(name: str, data_dir: Path) -> Sidecar:
    """Recompute every digest and decode every image; return the sidecar.

    Raises UserError for the first thing that is wrong.
    """
    sidecar = require_dataset(name, data_dir)
    for split in sidecar.splits:
        layout = open_layout(sidecar, data_dir, split)
        check_digest(sidecar, layout, split)
        memory = layout.map()
        for index in (layout.modes == JPEG).nonzero()[0].tolist():
            _decode(layout, index, memory)
    return sidecar


def check_content(name: str, data_dir: Path) -> None:
    """Refuse files that are damaged or were changed after they were written.

    Files above 1 GiB are not read through. Raises UserError.
    """
    sidecar = require_dataset(name, data_dir)
    for split, written in sidecar.splits.items():
        layout = open_layout(sidecar, data_dir, split)
        if written.bytes <= _READ_THROUGH:
            check_digest(sidecar, layout, split)


def _decode(layout: Layout, index: int, memory: Bytes) -> None:
    try:
        with Image.open(io.BytesIO(layout.stored(index, memory).tobytes())) as image:
            image.load()
            size = (image.height, image.width)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins raise any kind for broken files
        raise UserError(f"{layout.path}: image {index} cannot be decoded: {error}") from error
    if size != (layout.heights[index], layout.widths[index]):
        raise UserError(f"{layout.path}: image {index} has another size than its entry says")


def info(name: str, data_dir: Path) -> dict[str, Any]:
    """Return what is known of a dataset and of its files, as plain JSON values.

    ``sidecar`` is None if the dataset was not written; nothing is read but the sidecar.
    """
    known = dataset_info(name, data_dir=data_dir)
    sidecar = read_sidecar(name, data_dir)
    return {
        "schema": 1,
        "name": name,
        "summary": known.summary,
        "num_classes": sidecar.num_classes if sidecar else known.num_classes,
        "folder": str(sidecar_path(name, data_dir).parent),
        "write_command": known.write_command,
        "identity": dataset_identity(name, data_dir),
        "sidecar": None if sidecar is None else sidecar.to_json(),
    }
