"""Rows of a teacher's outputs on disk, each of which proves itself.

A row lies at its number times its length, behind a checksum of its content, its number and what
the file is about. So several processes and nodes may write one file without a lock (whoever
writes a row writes the same bytes), and whatever else happened to it - a kill in the middle of a
row, a full disk, a file cut short or altered, a hole that was never written - is no row.

Nothing is mapped into memory: pages of a mapped file count as the process', and one that was cut
short would end it by a signal.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmark.base.errors import UserError
from benchmark.data.rng import draws, stream_key

Rows = npt.NDArray[np.int64]
Content = npt.NDArray[np.uint8]
_WORD = 8


class AnswerFile:
    """Rows of ``width`` bytes in one file; ``about`` enters every checksum.

    Raises UserError if the file is not a plain one of this user's own; OSError where it
    cannot be opened. A file that may not be written is only read.
    """

    def __init__(self, path: Path, width: int, about: str) -> None:
        self.path = path
        self.width = width
        self._words = -(-width // _WORD)
        self.row_bytes = (1 + self._words) * _WORD
        self._factors = _factors(about, self._words + 1)
        self._descriptor, self.writable = open_own(path)

    def read(self, rows: Rows) -> tuple[Content, npt.NDArray[np.bool_]]:
        """Return the content of ``rows`` [n, width] and which of them [n] are there."""
        found = np.zeros((len(rows), 1 + self._words), np.uint64)
        views = found.view(np.uint8)
        for number, row in enumerate(rows.tolist()):
            os.preadv(self._descriptor, [views[number]], row * self.row_bytes)
        there = found[:, 0] == self._checksums(found[:, 1:], rows)
        content = np.ascontiguousarray(views[:, _WORD : _WORD + self.width])
        return content, there

    def write(self, rows: Rows, content: Content) -> None:
        """Write ``content`` [n, width] to ``rows``. Raises OSError; a torn row is no row."""
        made = np.zeros((len(rows), 1 + self._words), np.uint64)
        views = made.view(np.uint8)
        views[:, _WORD : _WORD + self.width] = content
        made[:, 0] = self._checksums(made[:, 1:], rows)
        for number, row in enumerate(rows.tolist()):
            os.pwrite(self._descriptor, views[number], row * self.row_bytes)

    def size(self) -> int:
        """Return the bytes that the file takes of the disk, holes left out."""
        return os.fstat(self._descriptor).st_blocks * 512

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _checksums(self, words: npt.NDArray[np.uint64], rows: Rows) -> npt.NDArray[np.uint64]:
        """Return a checksum [n] for each row; never 0, which is what a hole reads as.

        Multilinear hashing modulo 2^64: an accident goes unseen with a chance of about 2^-63.
        """
        total = words * self._factors[1:]
        mixed = total.sum(axis=1, dtype=np.uint64)
        mixed += (rows.astype(np.uint64) + np.uint64(1)) * self._factors[0]
        mixed ^= mixed >> np.uint64(29)
        checksums: npt.NDArray[np.uint64] = mixed | np.uint64(1)
        return checksums


def _factors(about: str, count: int) -> npt.NDArray[np.uint64]:
    """Return odd multipliers that depend on what the file is about."""
    bits = draws(stream_key(0, 0, f"answers/{about}"), np.arange(count, dtype=np.int64))
    return bits | np.uint64(1)


def open_own(path: Path) -> tuple[int, bool]:
    """Open for reading and writing, or for reading alone (False). Follows no link there.

    Raises OSError, and UserError if it is not a plain file of this user's own.
    """
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor, writable = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600), True
    except OSError as error:
        try:
            descriptor, writable = os.open(path, os.O_RDONLY | flags), False
        except OSError:
            raise error from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
        os.close(descriptor)
        raise UserError(f"{path} is not a file of your own")
    return descriptor, writable
