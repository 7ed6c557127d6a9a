"""CIFAR-10 and CIFAR-100 from their official python pickles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmark.base.errors import UserError
from benchmark.data.datasets import DatasetInfo
from benchmark.data.formats import Sample
from benchmark.data.sidecar import SplitName
from benchmark.data.sources.pickles import read_images, read_names
from benchmark.data.sources.source import Source, SourceSplit

Images = tuple[npt.NDArray[np.uint8], list[int]]  # pixels [N, 32, 32, 3], labels

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_LABELS = {"cifar10": "labels", "cifar100": "fine_labels"}
_NAMES = {
    "cifar10": ("batches.meta", "label_names"),
    "cifar100": ("meta", "fine_label_names"),
}


def cifar_folder(info: DatasetInfo, path: Path) -> Path | None:
    """Return the folder of the pickles: ``path`` or the official folder in it, if there is one."""
    for folder in (path, path / FOLDERS[info.name]):
        if all((folder / name).is_file() for name, _, _ in info.files):
            return folder
    return None


def cifar_source(info: DatasetInfo, folder: Path) -> Source:
    """Return the images in ``folder``, in the order of the official files.

    The md5 of each file decides whether the data is official. Raises UserError for files that are
    no intact pickles of images.
    """
    checksums = {name: _md5(folder / name) for name, _, _ in info.files}
    changed = [name for name, _, md5 in info.files if checksums[name] != md5]
    parts: dict[SplitName, list[Images]] = {"train": [], "test": []}
    for name, split, _ in info.files:
        parts[split].append(read_images(folder / name, _LABELS[info.name], info.num_classes))
    file, key = _NAMES[info.name]
    splits: dict[SplitName, SourceSplit] = {}
    for split, found in parts.items():
        images = np.concatenate([images for images, _ in found])
        labels = [label for _, part in found for label in part]
        splits[split] = SourceSplit(len(labels), partial(_samples, images, labels))
    return Source(
        splits=splits,
        classes=read_names(folder / file, key, info.num_classes),
        checksums=checksums,
        altered=f"md5 of {', '.join(changed)} is not the official one" if changed else None,
    )


def _samples(images: npt.NDArray[np.uint8], labels: list[int]) -> Iterator[Sample]:
    for image, label in zip(images, labels, strict=True):
        yield Sample(image.tobytes(), image.shape[0], image.shape[1], label)


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
