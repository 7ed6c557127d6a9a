"""Images in arrays: a .npz file, pickles of plain arrays, or a folder with one a split.

Looked for are, by the names that people use: images [N, H, W], [N, H, W, C], [N, C, H, W] or
[N, C * H * W] of bytes with C 1 or 3, labels [N] or [N, 1] of whole numbers from 0, and names of
classes. Nothing in a file is run: object arrays and foreign pickles are refused.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import (
    MAGIC_PREFIX,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
)

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular
from benchmark.data.formats import MAX_SIDE, Sample
from benchmark.data.sidecar import SplitName
from benchmark.data.sources.own_folders import held_out
from benchmark.data.sources.pickles import read_arrays
from benchmark.data.sources.source import Source, SourceSplit

_PICKLES = (".pkl", ".pickle")
SUFFIXES = (".npz", *_PICKLES)
_IMAGES = ("images", "data", "x")
_LABELS = ("labels", "targets", "y", "fine_labels", "label")
_NAMES = ("classes", "class_names", "label_names", "fine_label_names")
_TEST = ("test", "val", "valid")
_MOST_PACKED = 1100  # deflate makes nothing more than 1032 times smaller
_HEADERS = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
_BROKEN = (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError)
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def array_files(path: Path) -> list[Path]:
    """Return the files of arrays that ``path`` is or holds, empty if there are none."""
    if path.is_file():
        return [path] if path.suffix.lower() in SUFFIXES else []
    names = ("train", *_TEST)
    return [
        p for name in names for suffix in ("", *SUFFIXES) if (p := path / (name + suffix)).is_file()
    ]


def array_source(files: list[Path], test_fraction: float | None) -> Source:
    """Return the images of some files; UserError where they hold anything else."""
    content: dict[str, Any] = {}
    for path in files:
        told = _read(path)
        split = path.stem if len(files) > 1 else ""
        content |= {f"{split}_{key}" if split else key: value for key, value in told.items()}
    where = str(files[0]) if len(files) == 1 else str(files[0].parent)
    parts = _parts(content, where, test_fraction)
    names = _class_names(content)
    labels = np.concatenate([labels for _, labels in parts.values()])
    number = len(names) or int(labels.max()) + 1
    if labels.min() < 0 or labels.max() >= number:
        raise UserError(f"{where}: labels must lie between 0 and {number - 1}")
    empty = sorted({*range(number)} - {*parts["train"][1].tolist()})
    if empty:
        raise UserError(
            f"{where}: no training image has label {empty[0]}; labels count from 0 without gaps"
        )
    return Source(
        splits={
            split: SourceSplit(len(images), partial(_samples, images, labels), images[0].size)
            for split, (images, labels) in parts.items()
        },
        classes=names or tuple(str(label) for label in range(number)),
        checksums={path.name: _md5(path) for path in files},
        altered=None,
        notes=_unread(content, where),
    )


def _read(path: Path) -> dict[str, Any]:
    if path.suffix.lower() != ".npz":
        return read_arrays(path)
    try:
        with open_regular(path) as file:
            _check_sizes(path, file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
    # zipfile has RuntimeError for what is encrypted, zlib its own for what is damaged.
    except (*_BROKEN, RuntimeError, MemoryError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read {path}: {reason}") from error


def _check_sizes(path: Path, file: IO[bytes]) -> None:
    """Refuse arrays larger than what the file holds, before memory is asked for them."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        held = sum(entry.file_size for entry in entries)
        if held > _MOST_PACKED * path.stat().st_size:
            raise UserError(f"cannot read {path}: it says that it holds {held:,} bytes")
        for entry in entries:
            with archive.open(entry) as content:
                if content.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                    continue  # no array: bytes of that length
                content.seek(0)
                header = _HEADERS.get(read_magic(content))
                if header is None:
                    raise ValueError(f"{entry.filename} has a header of another version")
                shape, _, dtype = header(content)
            size = math.prod(shape) * dtype.itemsize
            if size > entry.file_size and not dtype.hasobject:  # those are refused anyway
                raise UserError(
                    f"cannot read {path}: {entry.filename} says that it has shape {list(shape)},"
                    f" {size:,} bytes, and holds {entry.file_size:,}"
                )


def _parts(
    content: Mapping[str, Any], where: str, test_fraction: float | None
) -> dict[SplitName, tuple[Images, Labels]]:
    train = _pair(content, ("train",), where)
    test = _pair(content, _TEST, where)
    whole = _pair(content, ("",), where)
    if train is not None and test is not None:
        if test_fraction is not None:
            raise UserError(f"{where} has test images of its own: no --test-fraction")
        return {"train": train, "test": test}
    every = train or whole
    if every is None:
        raise UserError(
            f"{where} holds {', '.join(sorted(content)[:8]) or 'nothing'}; wanted are train_images,"
            " train_labels, test_images and test_labels (or x_train, y_train, x_test, y_test)"
        )
    if test_fraction is None:
        raise UserError(f"{where} holds no test images; set some aside with --test-fraction 0.2")
    images, labels = every
    items = [(int(label), str(number)) for number, label in enumerate(labels)]
    aside = np.zeros(len(labels), bool)
    aside[[int(number) for _, number in held_out(items, test_fraction)]] = True
    return {"train": (images[~aside], labels[~aside]), "test": (images[aside], labels[aside])}


def _pair(
    content: Mapping[str, Any], splits: tuple[str, ...], where: str
) -> tuple[Images, Labels] | None:
    """Return images and labels of the first of some splits that is there."""
    for split in splits:
        images, labels = _spelt(content, split)
        if images is not None and labels is not None:
            return _checked(images, content[images], labels, content[labels], where)
    return None


def _spelt(content: Mapping[str, Any], split: str) -> tuple[str | None, str | None]:
    """Return how the images and the labels of a split are called, None for what is not there."""
    lower = {name.lower(): name for name in content}
    found = []
    for words in (_IMAGES, _LABELS):
        tried = [w for word in words for w in (f"{split}_{word}", f"{word}_{split}")]
        spelt = [word.strip("_") for word in tried]
        found.append(next((lower[name] for name in spelt if name in lower), None))
    return found[0], found[1]


def _unread(content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Say which images are there besides those that are read."""
    first, *others = [split for split in _TEST if None not in _spelt(content, split)] or [""]
    if not others:
        return ()
    named = ", ".join(others)
    return (f"{where}: the test images are those of {first}; those of {named} are not read",)


def _checked(
    image_name: str, given: Any, label_name: str, told: Any, where: str
) -> tuple[Images, Labels]:
    labels = np.asarray(told) if isinstance(told, list | np.ndarray) else np.empty(0)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise UserError(f"{where}: {label_name} must be [N] whole numbers")
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8:
        kind = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
        raise UserError(
            f"{where}: {image_name} must be bytes (uint8, 0 to 255), not {kind}; convert them"
            " first, since nothing says what is white"
        )
    images = _rgb(given)
    if images is None:
        raise UserError(
            f"{where}: {image_name} has shape {list(given.shape)}; wanted is [N, H, W],"
            " [N, H, W, C] or [N, C, H, W] with C 1 or 3"
        )
    if len(images) != len(labels):
        raise UserError(f"{where} holds {len(images)} images but {len(labels)} labels")
    return images, labels.astype(np.int64)


def _rgb(given: npt.NDArray[np.uint8]) -> Images | None:
    """Return images as [N, H, W, 3]; None for another shape."""
    images = given
    if images.ndim == 2:  # as CIFAR's: flat, a channel after the other
        side = math.isqrt(images.shape[1] // 3)
        if 3 * side * side != images.shape[1]:
            return None
        images = images.reshape(-1, 3, side, side)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not images.size:
        return None
    if images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.shape[3] not in (1, 3) or max(images.shape[1:3]) > MAX_SIDE:
        return None
    return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))


def _class_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    for key, value in content.items():
        if key.lower().removeprefix("train_") in _NAMES:
            items = value.tolist() if isinstance(value, np.ndarray) else value
            if isinstance(items, list | tuple) and items:
                return tuple(i.decode("latin1") if isinstance(i, bytes) else str(i) for i in items)
    return ()


def _samples(images: Images, labels: Labels) -> Iterator[Sample]:
    for image, label in zip(images, labels, strict=True):
        yield Sample(image.tobytes(), image.shape[0], image.shape[1], int(label))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
