"""Images in class folders: SOURCE/train/CLASS/*.jpg and SOURCE/val (or test)/CLASS/*.jpg.

Classes and samples are in the order of torchvision's ImageFolder, so that label numbers are the
ones that published models use.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.data.datasets import DatasetInfo
from benchmark.data.formats import Sample
from benchmark.data.sidecar import SplitName, WriteSettings
from benchmark.data.sources.encode import encode, largest
from benchmark.data.sources.listing import Listing, list_images
from benchmark.data.sources.source import Source, SourceSplit
from benchmark.table.imagenet_classes import imagenet_classes

# The sorted folder names of ILSVRC2012, one a line: what makes class numbers comparable.
_IMAGENET_CLASSES = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


def has_class_folders(path: Path) -> bool:
    """Return whether ``path`` holds a train folder and a val or test folder."""
    return (path / "train").is_dir() and find_test(path) is not None


def unread_test(path: Path) -> tuple[str, ...]:
    """Say where there are test images besides those that are read."""
    if not all((path / name).is_dir() for name in ("val", "test")):
        return ()
    return (f"{path}: the images in val/ are the test images; those in test/ are not read",)


def find_test(path: Path) -> Path | None:
    """Return the folder of test images beside ``train``, None if there is none."""
    return next((path / name for name in ("val", "test") if (path / name).is_dir()), None)


def folder_source(info: DatasetInfo, path: Path, write: WriteSettings, workers: int) -> Source:
    """Return the images below ``path``; ``workers`` threads read and encode them.

    Official is only the whole of ImageNet, stored as it is: the same classes, counts and images;
    some of its classes are another data set with a digest of its own.
    Raises UserError if folders are missing, the two splits have different classes, or a class
    has no images.
    """
    test = find_test(path)
    if test is None or not (path / "train").is_dir():
        raise UserError(f"{path} must hold the class folders as train/CLASS/ and val/CLASS/")
    splits: dict[SplitName, Listing] = {
        "train": list_images(path / "train"),
        "test": list_images(test),
    }
    classes, test_classes = (listing.classes for listing in splits.values())
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise UserError(f"{path}: class '{odd}' is in one of train and {test.name} only")
    if len(classes) != info.num_classes and not _some_of_imagenet(info, classes):
        raise UserError(
            f"{path} holds {len(classes)} classes; {info.name} has {info.num_classes}"
            + ("; a part of them must have the official folder names" if _names(info) else "")
        )
    num_train, num_test = (len(listing.images) for listing in splits.values())
    return Source(
        splits=listed(splits, write, workers),
        classes=classes,
        checksums={listing.root.name: listing.md5() for listing in splits.values()},
        altered=_altered(info, classes, num_train, num_test, write),
        notes=(*unread_test(path), *(n for listing in splits.values() for n in listing.notes())),
    )


def listed(
    splits: Mapping[SplitName, Listing], write: WriteSettings, workers: int
) -> dict[SplitName, SourceSplit]:
    """Return listed images as splits; ``workers`` threads read and encode them."""
    return {
        split: SourceSplit(
            len(listing.images),
            partial(encoded, listing.images, write, workers),
            max(largest(listing, write, workers)),
        )
        for split, listing in splits.items()
    }


def _names(info: DatasetInfo) -> tuple[str, ...]:
    return imagenet_classes() if info.name == "imagenet" else ()


def _some_of_imagenet(info: DatasetInfo, classes: tuple[str, ...]) -> bool:
    """Tell whether they are a part of the official classes, two or more, by their names."""
    return 1 < len(classes) < info.num_classes and set(classes) <= set(_names(info))


def _altered(
    info: DatasetInfo, classes: tuple[str, ...], num_train: int, num_test: int, write: WriteSettings
) -> str | None:
    if info.name != "imagenet":
        return "class folders carry no proof of being the official files"
    names = hashlib.sha256("\n".join(classes).encode()).hexdigest()
    if _some_of_imagenet(info, classes):
        return f"{len(classes)} of its {info.num_classes} classes"
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


def encoded(
    files: Sequence[tuple[Path, int]], write: WriteSettings, workers: int
) -> Iterator[Sample]:
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
