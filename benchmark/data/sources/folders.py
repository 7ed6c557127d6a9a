"""Images in class folders: SOURCE/train/CLASS/*.jpg and SOURCE/val (or test)/CLASS/*.jpg.

Classes are the sorted names of the folders, samples are sorted by path: the order of
torchvision's ImageFolder, so that label numbers are the ones that published models use.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from benchmark.base.errors import UserError
from benchmark.data.datasets import DatasetInfo
from benchmark.data.formats import JPEG, RAW, Sample
from benchmark.data.sidecar import WriteSettings
from benchmark.data.sources.source import Source, SourceSplit

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
# The sorted folder names of ILSVRC2012, one a line: what makes class numbers comparable.
_IMAGENET_CLASSES = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


def has_class_folders(path: Path) -> bool:
    """Return whether ``path`` holds a train folder and a val or test folder."""
    return (path / "train").is_dir() and _test_folder(path) is not None


def _test_folder(path: Path) -> Path | None:
    return next((path / name for name in ("val", "test") if (path / name).is_dir()), None)


def folder_source(info: DatasetInfo, path: Path, write: WriteSettings, workers: int) -> Source:
    """Return the images below ``path``; ``workers`` threads read and encode them.

    Official is only the whole of ImageNet, stored as it is: the same classes, counts and images.
    Raises UserError where folders are missing or the two splits have different classes.
    """
    test = _test_folder(path)
    if test is None or not (path / "train").is_dir():
        raise UserError(f"{path} must hold the class folders as train/CLASS/ and val/CLASS/")
    train_files, classes = _listing(path / "train")
    test_files, test_classes = _listing(test)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise UserError(f"{path}: class '{odd}' is in one of train and {test.name} only")
    if len(classes) != info.num_classes:
        raise UserError(f"{path} holds {len(classes)} classes; {info.name} has {info.num_classes}")
    checksums = {"train": _listing_md5(train_files), test.name: _listing_md5(test_files)}
    samples = partial(_samples, write=write, workers=workers)
    return Source(
        splits={
            "train": SourceSplit(len(train_files), partial(samples, train_files)),
            "test": SourceSplit(len(test_files), partial(samples, test_files)),
        },
        classes=classes,
        checksums=checksums,
        altered=_altered(info, classes, len(train_files), len(test_files), write),
    )


def _altered(
    info: DatasetInfo, classes: tuple[str, ...], num_train: int, num_test: int, write: WriteSettings
) -> str | None:
    if info.name != "imagenet":
        return "class folders carry no proof of being the official files"
    names = hashlib.sha256("\n".join(classes).encode()).hexdigest()
    if names != _IMAGENET_CLASSES:
        return "its classes are not the official ones"
    if (num_train, num_test) != (info.num_train, info.num_test):
        return (
            f"{num_train} training and {num_test} test images,"
            f" not {info.num_train} and {info.num_test}"
        )
    if write.storage != "jpeg" or write.max_resolution is not None:
        return "images were resized or decoded when they were written"
    return None


def _listing(root: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UserError(f"{root} holds no images in class folders")
    return files, tuple(classes)


def _listing_md5(files: list[tuple[Path, int]]) -> str:
    lines = "".join(f"{p.parent.name}/{p.name} {p.stat().st_size}\n" for p, _ in files)
    return hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()


def _samples(files: list[tuple[Path, int]], write: WriteSettings, workers: int) -> Iterator[Sample]:
    """Yield the samples in order, encoded ``workers`` at a time, a bounded number ahead."""
    waiting: deque[Future[Sample]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for path, label in files:
                waiting.append(pool.submit(encode, path, label, write))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def encode(path: Path, label: int, write: WriteSettings) -> Sample:
    """Return one image file as it is stored.

    A JPEG that needs no change keeps its bytes; others (other formats, CMYK, longer than
    ``max_resolution``) are encoded at ``jpeg_quality``. Sizes are reduced by averaging areas, as
    FFCV's writer does. Every image is decoded once, so a broken one is found here, by name.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            longest = max(image.size)
            shrink = write.max_resolution is not None and longest > write.max_resolution
            keep = image.format == "JPEG" and image.mode in ("RGB", "L") and not shrink
            width, height = image.size
            if write.storage == "jpeg" and keep:
                return Sample(data, height, width, label, JPEG)
            rgb = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise UserError(f"cannot decode {path}: {error}") from error
    if shrink:
        assert write.max_resolution is not None
        ratio = write.max_resolution / longest
        width, height = max(1, int(width * ratio)), max(1, int(height * ratio))
        rgb = rgb.resize((width, height), Image.Resampling.BOX)
    if write.storage == "raw":
        return Sample(rgb.tobytes(), height, width, label, RAW)
    assert write.jpeg_quality is not None
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=write.jpeg_quality)
    return Sample(buffer.getvalue(), height, width, label, JPEG)
