"""The .beton format of FFCV, version 2, written and read with numpy alone.

A file holds three fields, in this order: ``image`` (RGB, raw or JPEG), ``label`` and ``index``
(integers). It is laid out as

    header | field descriptors | one metadata row a sample | zeros up to a page | pages | table

where the table at the end gives sample, pointer and size of every image. An image never
crosses a page. Files written here are the same bytes whatever the number of workers; FFCV's own
writer orders its pages by chance, which the reader accepts.

Layout as in ffcv 1.0.2 (ffcv/types.py, ffcv/writer.py, ffcv/memory_allocator.py).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmark.base.errors import UserError

VERSION = 2
FIELDS = (("image", 2), ("label", 1), ("index", 1))  # names and FFCV's type numbers
JPEG, RAW = 0, 1
MIN_PAGE, MAX_PAGE = 1 << 21, 1 << 31
MAX_SIDE = (1 << 16) - 1  # sides are stored in 16 bits

_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("table", "<u8"),
    ],
    align=True,
)
_DESCRIPTOR = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "V1024")], align=True)
_IMAGE = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")])
_ROW = np.dtype([("image", _IMAGE), ("label", "<i8"), ("index", "<i8")], align=True)
_ALLOCATION = np.dtype([("sample", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
_METADATA_START = _HEADER.itemsize + len(FIELDS) * _DESCRIPTOR.itemsize

Bytes = npt.NDArray[np.uint8]


class Sample(NamedTuple):
    """One image as it is stored: H * W * 3 bytes (row by row, RGB), or a JPEG file's bytes.

    ``turned``: its file asks viewers to turn or mirror it, which is not done.
    """

    data: bytes
    height: int
    width: int
    label: int
    mode: int = RAW
    turned: bool = False


def write_beton(
    file: IO[bytes], samples: Iterable[Sample], num_samples: int, page_size: int = MIN_PAGE
) -> int:
    """Write ``samples`` to a new, seekable file; return its length in bytes.

    Raises UserError if there are no samples or one does not fit a page.
    """
    if num_samples == 0:
        raise UserError("there are no images to write")
    assert page_size & (page_size - 1) == 0, "FFCV needs a power of two"
    assert MIN_PAGE <= page_size <= MAX_PAGE
    rows = np.zeros(num_samples, _ROW)
    table = np.zeros(num_samples, _ALLOCATION)
    position = -(-(_METADATA_START + rows.nbytes) // page_size) * page_size
    written = 0
    file.seek(position)
    for number, sample in enumerate(samples):
        assert number < num_samples, "more samples than announced"
        size = len(sample.data)
        if size > page_size:
            raise UserError(f"image {number} takes {size} bytes, more than a page can hold")
        left = page_size - position % page_size
        if size > left:
            file.seek(left, os.SEEK_CUR)
            position += left
        file.write(sample.data)
        image = (sample.mode, sample.width, sample.height, position)
        rows[number] = (image, sample.label, number)
        table[number] = (number, position, size)
        position += size
        written += 1
    assert written == num_samples, "fewer samples than announced"
    file.write(table.tobytes())
    length = file.tell()
    file.seek(0)
    file.write(_head(num_samples, page_size, position))
    file.write(rows.tobytes())
    return length


def _head(num_samples: int, page_size: int, table: int) -> bytes:
    header = np.array([(VERSION, len(FIELDS), page_size, num_samples, table)], _HEADER)
    descriptors = np.zeros(len(FIELDS), _DESCRIPTOR)
    for descriptor, (name, kind) in zip(descriptors, FIELDS, strict=True):
        descriptor["type"], descriptor["name"] = kind, name.encode()
    return bytes(header.tobytes() + descriptors.tobytes())


@dataclass(frozen=True)
class Layout:
    """Where every sample of a checked .beton file lies; all arrays are [N], by index."""

    path: Path
    modes: Bytes
    heights: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    pointers: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @property
    def num_samples(self) -> int:
        """Number of images N."""
        return len(self.labels)

    def stored(self, index: int, memory: Bytes) -> Bytes:
        """Return the stored bytes of one image from ``memory``, the mapped file."""
        pointer = self.pointers[index]
        return memory[pointer : pointer + self.sizes[index]]

    def map(self) -> Bytes:
        """Map the file into memory, read-only."""
        return np.memmap(self.path, np.uint8, "r")


def read_layout(path: Path) -> Layout:
    """Read and check all of a .beton file but its pixels.

    Everything that a reader follows is checked here (sizes, counts, pointers), since FFCV itself
    would crash or hang on it. Raises UserError, one line, for a missing, truncated, foreign or
    empty file or another format version.
    """
    try:
        with path.open("rb") as file:
            return _read_layout(path, file.fileno(), path.stat().st_size)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _read_layout(path: Path, descriptor: int, length: int) -> Layout:
    def read(dtype: np.dtype[np.void], count: int, offset: int) -> npt.NDArray[np.void]:
        data = os.pread(descriptor, dtype.itemsize * count, offset)
        if len(data) != dtype.itemsize * count:
            raise UserError(f"{path} is truncated; write it again with: bench data write")
        return np.frombuffer(data, dtype)

    def foreign(why: str) -> UserError:
        return UserError(f"{path} is no .beton file of this project ({why})")

    if length < _METADATA_START:
        raise foreign(f"{length} bytes are too few")
    header = read(_HEADER, 1, 0)[0]
    if header["version"] != VERSION:
        raise foreign(f"format version {header['version']}, not {VERSION}")
    page_size, num_samples, start = (int(header[k]) for k in ("page_size", "num_samples", "table"))
    if header["num_fields"] != len(FIELDS) or page_size & (page_size - 1) or page_size < MIN_PAGE:
        raise foreign("unexpected header")
    descriptors = read(_DESCRIPTOR, len(FIELDS), _HEADER.itemsize)
    found = [(d["name"].decode("latin1"), int(d["type"])) for d in descriptors]
    if found != list(FIELDS):
        raise foreign("its fields are not image, label, index")
    if num_samples == 0:
        raise UserError(f"{path} holds no images")
    metadata_end = _METADATA_START + num_samples * _ROW.itemsize
    if not metadata_end <= start <= length:
        raise UserError(f"{path} is truncated; write it again with: bench data write")
    if (length - start) != num_samples * _ALLOCATION.itemsize:
        raise UserError(f"{path} is truncated or has bytes after its end")
    rows = read(_ROW, num_samples, _METADATA_START)
    table = read(_ALLOCATION, num_samples, start)
    image = rows["image"]
    table = table[np.argsort(table["sample"], kind="stable")]
    modes, pointers, sizes = image["mode"], image["pointer"], table["size"]
    expected = image["height"].astype(np.uint64) * image["width"] * np.uint64(3)
    broken = (
        (table["sample"] != np.arange(num_samples))
        | (rows["index"] != np.arange(num_samples))
        | (table["pointer"] != pointers)
        | (pointers < metadata_end)
        | (pointers > start)
        | (sizes > start)
        | (pointers + sizes > start)
        | (sizes == 0)
        | (rows["label"] < 0)
        | (modes > RAW)
        | ((modes == RAW) & (sizes != expected))
    )
    if broken.any():
        raise UserError(f"{path} is damaged: the entry of image {int(broken.argmax())} is wrong")
    return Layout(
        path=path,
        modes=modes.copy(),
        heights=image["height"].astype(np.int64),
        widths=image["width"].astype(np.int64),
        pointers=pointers.astype(np.int64),
        sizes=sizes.astype(np.int64),
        labels=rows["label"].astype(np.int64),
    )


def read_pixels(layout: Layout) -> Bytes:
    """Return all images of a raw file with one image size, [N, H, W, 3] uint8.

    Raises UserError if images are compressed or differ in size.
    """
    height, width = int(layout.heights[0]), int(layout.widths[0])
    if (layout.modes != RAW).any():
        raise UserError(f"{layout.path} holds compressed images: read it with the ffcv reader")
    if (layout.heights != height).any() or (layout.widths != width).any():
        raise UserError(f"{layout.path} holds images of several sizes: use the ffcv reader")
    size = height * width * 3
    memory = layout.map()
    pixels = np.empty((layout.num_samples, size), np.uint8)
    # Neighbours in a page are copied together: one copy a page instead of one an image.
    breaks = np.flatnonzero(np.diff(layout.pointers) != size) + 1
    begins = [0, *breaks.tolist(), layout.num_samples]
    for begin, end in itertools.pairwise(begins):
        pointer = int(layout.pointers[begin])
        block = memory[pointer : pointer + (end - begin) * size]
        pixels[begin:end] = block.reshape(end - begin, size)
    return pixels.reshape(-1, height, width, 3)
