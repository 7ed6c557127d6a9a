"""Class folders of the user's own: any classes, Tiny-ImageNet's layout, or one tree to be divided.

Classes are the sorted names of the folders, images are found as in `listing.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from benchmark.base.errors import UserError
from benchmark.base.words import printable
from benchmark.data.sidecar import SplitName, WriteSettings
from benchmark.data.sources.folders import find_test, listed, unread_test
from benchmark.data.sources.listing import Listing, file_size, files_below, list_images, shown
from benchmark.data.sources.source import Source

Splits = dict[SplitName, Listing]
# Squares of up to this side are stored as pixels, and kept in memory while training.
_SMALL = 128


def list_own(path: Path, test_fraction: float | None) -> Splits:
    """Return the images of both splits below ``path``.

    Raises UserError if they cannot be told, or the splits have different classes.
    """
    test = find_test(path)
    annotations = path / "val" / "val_annotations.txt"
    if (path / "train").is_dir() and annotations.is_file() and (path / "val/images").is_dir():
        train = list_images(path / "train")
        return {"train": train, "test": _annotated(annotations, train.classes)}
    if (path / "train").is_dir() and test is not None:
        if test_fraction is not None:
            raise UserError(f"{path} has its test images in {test.name}/: no --test-fraction")
        splits: Splits = {"train": list_images(path / "train"), "test": list_images(test)}
        odd = sorted({*splits["train"].classes} ^ {*splits["test"].classes})
        if odd:
            raise UserError(f"{path}: class '{odd[0]}' is in one of train and {test.name} only")
        return splits
    if test_fraction is None:
        raise UserError(
            f"{path} holds no folders train/ and val/ (or test/) with a folder a class; to set a"
            " part of one tree of class folders aside for tests, add --test-fraction 0.2"
        )
    return _divided(list_images(path), test_fraction)


def _annotated(annotations: Path, classes: tuple[str, ...]) -> Listing:
    """Return the images of Tiny-ImageNet's val folder, whose classes a text file names."""
    numbers = {name: label for label, name in enumerate(classes)}
    folder = annotations.parent / "images"
    found: dict[Path, int] = {}
    try:
        lines = annotations.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {annotations}: {error}") from error
    for line in filter(None, lines):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in numbers:
            raise UserError(f"{annotations}: the class '{wnid}' of {name} is not in train/")
        path = folder / Path(name).name
        if path in found:
            raise UserError(f"{annotations} names {printable(path.name)} twice")
        found[path] = numbers[wnid]
    images = sorted(found.items(), key=lambda item: (item[1], item[0].name))
    missing = next((path for path, _ in images if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"{annotations} names {shown(missing)}, which is not there")
    if not images:
        raise UserError(f"{annotations} names no image")
    empty = sorted({*range(len(classes))} - {*found.values()})
    if empty:
        raise UserError(f"{annotations} names no image of the class '{classes[empty[0]]}'")
    sizes = tuple(file_size(path) for path, _ in images)
    unnamed = tuple(path for path in files_below(folder) if path not in found)
    return Listing(annotations.parent, classes, tuple(images), sizes, (), unnamed)


def _divided(every: Listing, fraction: float) -> Splits:
    """Set a part of each class aside: the files whose names have the smallest digests."""
    test = set(
        held_out(((label, _name(path, every.root)) for path, label in every.images), fraction)
    )
    parts: dict[SplitName, list[int]] = {"train": [], "test": []}
    for number, (path, label) in enumerate(every.images):
        parts["test" if (label, _name(path, every.root)) in test else "train"].append(number)
    return {
        split: Listing(
            every.root,
            every.classes,
            tuple(every.images[n] for n in numbers),
            tuple(every.sizes[n] for n in numbers),
            every.passed_over if split == "train" else (),
            every.outside if split == "train" else (),
        )
        for split, numbers in parts.items()
    }


def _name(path: Path, root: Path) -> str:
    return os.fsencode(path.relative_to(root)).hex()  # the same wherever the tree lies


def held_out(items: Iterable[tuple[int, str]], fraction: float) -> list[tuple[int, str]]:
    """Return which (label, name) are for tests: a part of each class, by digests of names.

    Raises UserError if a class is too small to be divided.
    """
    if not 0 < fraction < 1:
        raise UserError(f"--test-fraction must lie between 0 and 1, not {fraction:g}")
    by_class: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for item in items:
        by_class[item[0]].append(item)
    found = []
    for label, members in sorted(by_class.items()):
        if len(members) < 2:
            raise UserError(f"class {label} has one image: it cannot be divided")
        members.sort(key=lambda item: hashlib.sha256(item[1].encode()).digest())
        number = min(len(members) - 1, max(1, round(fraction * len(members))))
        found += members[:number]
    return found


def common_side(splits: Splits) -> int | None:
    """Return the side of all images if they are squares of one small size, else None."""
    side = None
    for path, _ in (image for listing in splits.values() for image in listing.images):
        try:
            with Image.open(path) as image:
                size = image.size
        except Exception:  # said by name when it is encoded
            return None
        if size != (side or size[0],) * 2 or size[0] > _SMALL:
            return None
        side = size[0]
    return side


def own_source(path: Path, splits: Splits, write: WriteSettings, workers: int) -> Source:
    """Return the images listed below ``path``; ``workers`` threads read and encode them."""
    unread = unread_test(path) if splits["train"].root != path else ()
    return Source(
        splits=listed(splits, write, workers),
        classes=splits["train"].classes,
        checksums={split: listing.md5() for split, listing in splits.items()},
        altered=None,
        notes=(*unread, *(note for listing in splits.values() for note in listing.notes())),
    )
