"""Which files of class folders are images, in torchvision's order and by its rules.

As torchvision.datasets.ImageFolder: classes are the sorted names of the folders, links are
followed, images are told by their suffix, folders are walked sorted and names sorted within each.
Unlike it, whatever is passed over is counted, and what cannot be read is an error by name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.words import count, printable

# torchvision.datasets.folder.IMG_EXTENSIONS
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Listing:
    """The images of one split with their labels and sizes in bytes, and what is left out.

    ``passed_over``: what has no image's suffix; ``outside``: what is there beside them.
    """

    root: Path
    classes: tuple[str, ...]
    images: tuple[tuple[Path, int], ...]
    sizes: tuple[int, ...]
    passed_over: tuple[Path, ...]
    outside: tuple[Path, ...] = ()

    def md5(self) -> str:
        """Return the md5 of the list of names and sizes, in order."""
        found = hashlib.md5(usedforsecurity=False)
        for (path, _), size in zip(self.images, self.sizes, strict=True):
            found.update(os.fsencode(f"{path.parent.name}/{path.name} {size}\n"))
        return found.hexdigest()

    def notes(self) -> tuple[str, ...]:
        """Say what was left out; empty if nothing was."""
        return tuple(
            f"{self.root}: passed over {count(len(paths), 'file')} {why}: {self._named(paths)}"
            for why, paths in (
                ("without the suffix of an image", self.passed_over),
                ("that no class has", self.outside),
            )
            if paths
        )

    def _named(self, paths: tuple[Path, ...]) -> str:
        named = ", ".join(shown(path.relative_to(self.root)) for path in paths[:3])
        return named + (", ..." if len(paths) > 3 else "")


def list_images(root: Path) -> Listing:
    """List the class folders below ``root``.

    Raises UserError for a class without images, links that lead nowhere or in a circle, what is
    no plain file or cannot be read, and class names that are no UTF-8.
    """
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read {root}: {error.strerror}") from error
    names = [entry.name for entry in entries if _is_folder(entry)]
    outside = tuple(root / entry.name for entry in entries if not _is_folder(entry))
    for path in outside:
        if path.is_symlink():  # it may stand for a class
            file_size(path)
    classes = tuple(name for name in names if _speakable(root, name))
    images: list[tuple[Path, int]] = []
    sizes: list[int] = []
    passed_over: list[Path] = []
    for label, name in enumerate(classes):
        before = len(images)
        for path in files_below(root / name):
            if path.name.lower().endswith(SUFFIXES):
                sizes.append(file_size(path))
                images.append((path, label))
            else:
                passed_over.append(path)
        if len(images) == before:
            raise UserError(
                f"class folder {root / name} holds no images (files that end in"
                f" {', '.join(SUFFIXES)}); add them, or remove the folder"
            )
    if not images:
        raise UserError(f"{root} holds no images in class folders")
    return Listing(root, classes, tuple(images), tuple(sizes), tuple(passed_over), outside)


def shown(path: Path) -> str:
    """Return a path as it can be printed, with escapes if its name is no UTF-8."""
    return printable(str(path))


def _speakable(root: Path, name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the name of {shown(root / name)} is no UTF-8; rename it") from error
    return True


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder: folders in the order of their paths, names sorted in each."""
    above = folder.parent.stat()
    found = sorted(_walk(str(folder), ((above.st_dev, above.st_ino),)))
    return (Path(place, name) for place, names in found for name in sorted(names))


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, list[str]]]:
    try:
        place = os.stat(folder)
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"cannot read {shown(Path(folder))}: {error.strerror}") from error
    here = (place.st_dev, place.st_ino)
    if here in above:
        raise UserError(f"{shown(Path(folder))} is a link to a folder that it lies in; remove it")
    yield folder, [entry.name for entry in entries if not _is_folder(entry)]
    for entry in entries:
        if _is_folder(entry):
            yield from _walk(entry.path, (*above, here))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError as error:  # a link in a circle, or a mount that does not answer
        place = shown(Path(entry.path))
        if error.errno == errno.ELOOP:
            raise UserError(f"{place} is a link that leads to itself; remove it") from error
        raise UserError(f"cannot read {place}: {error.strerror}") from error


def file_size(path: Path) -> int:
    """Return the size in bytes; UserError for a link to nowhere and for what is no plain file."""
    try:
        found = path.stat()
    except OSError as error:
        if path.is_symlink():
            target = shown(Path(os.readlink(path)))
            raise UserError(
                f"{shown(path)} is a link to {target}, which is not there; restore or remove it"
            ) from error
        raise UserError(f"cannot read {shown(path)}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{shown(path)} is no plain file; remove it")
    return found.st_size
