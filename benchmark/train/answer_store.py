"""What a frozen teacher answered before, shared by all runs of one user's runs directory.

A folder a teacher: RUNS/.answers/USER/KEY/ with a file of logits and one of pooled vectors, a
row for each (image, variant). The key names all that could move a bit of an answer.
"""

from __future__ import annotations

import os
import platform
import stat
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.files import shared_directory, write_json
from benchmark.base.machine import cpu_facts
from benchmark.run.answers import used
from benchmark.run.identity import digest
from benchmark.train.answer_file import AnswerFile, Content, Rows
from benchmark.train.claims import Claims, Mask

SCHEMA = 1
# Raised whenever a row's form or meaning changes. 2: all are proved against batches of one size.
FORM = 2
# Never fill the last of a disk that others write to as well.
SPARE_SHARE = 0.05
_LOOK_EVERY = 256  # writes between looks at the disk


class Part(NamedTuple):
    """One output of a teacher: its file, and the type and width of its rows."""

    file: AnswerFile
    dtype: torch.dtype
    width: int

    def read(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return [n, width] values and which rows [n] are there."""
        content, there = self.file.read(rows)
        # Cloned into torch's own memory: libraries may round otherwise by where an array begins.
        values = torch.from_numpy(content).view(self.dtype).clone()
        return values, torch.from_numpy(there)

    def write(self, rows: Rows, values: Tensor) -> None:
        """Write [n, width] values. Raises OSError."""
        self.file.write(rows, as_bytes(values))


class AnswerStore:
    """The answers of one teacher. ``limit``: bytes that all teachers of the user may take."""

    def __init__(self, root: Path, about: dict[str, Any], limit: int) -> None:
        self.about = about
        self.key = digest({**about, "form": FORM})
        self.root = root
        self.folder = root / self.key
        self.limit = limit
        self._parts: dict[str, Part] = {}
        self._writes = 0
        self.full = False
        shared_directory(root.parent)
        own_folder(root)
        own_folder(self.folder)
        self._claims = Claims(self.folder)
        note = self.folder / "about.json"
        if not note.exists():
            write_json(note, {"schema": SCHEMA, **about})

    def part(self, name: str, like: Tensor) -> Part:
        """Return the file of one output, whose rows are as those of ``like`` [n, width]."""
        if name not in self._parts:
            width = like.shape[1]
            size = width * like.element_size()
            path = self.folder / f"{name}-{str(like.dtype).removeprefix('torch.')}-{width}.rows"
            file = AnswerFile(path, size, f"{self.key}/{path.name}")
            self._parts[name] = Part(file, like.dtype, width)
        return self._parts[name]

    def has_room(self) -> bool:
        """Tell whether rows may be written: below the limit, with space left for others."""
        if not self.full and self._writes % _LOOK_EVERY == 0:
            space = os.statvfs(self.folder)
            spare = space.f_bavail < SPARE_SHARE * space.f_blocks
            self.full = spare or used(self.root) >= self.limit
        self._writes += 1
        return self._keeps()

    def _keeps(self) -> bool:
        return not self.full and all(part.file.writable for part in self._parts.values())

    def claimed(self, rows: Rows, wait: bool) -> AbstractContextManager[Mask]:
        """Hold those of ``rows`` [n] that no other process is asking for; see Claims.held.

        All are yielded where nothing is kept: nobody has to wait for what will not be there.
        """
        if not self._keeps():
            return nullcontext(np.ones(len(rows), np.bool_))
        return self._claims.held(rows, wait)

    def close(self) -> None:
        """Close the files."""
        self._claims.close()
        for part in self._parts.values():
            part.file.close()
        self._parts.clear()


def as_bytes(values: Tensor) -> Content:
    """Return the bytes of values [n, width], a row each."""
    found: Content = values.detach().cpu().contiguous().view(torch.uint8).numpy()
    return found


def own_folder(path: Path) -> None:
    """Make a private folder, or check that it is a real one of this user's own.

    Raises UserError otherwise, and if it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        about = path.lstat()
    except OSError as error:
        raise UserError(f"cannot make {path}: {error.strerror}") from error
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise UserError(f"{path} is not a folder of your own")


def rows_of(indices: Tensor, variants: Tensor, num_variants: int) -> Rows:
    """Return the rows [B] of images by their index and variant."""
    found: Rows = (indices * num_variants + variants).cpu().numpy().astype(np.int64)
    return found


def machine() -> dict[str, Any]:
    """Return what of this machine and its libraries could move a bit."""
    return {
        "cpu": _cpu(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _cpu() -> str:
    if not cpu_facts():
        return platform.processor() or platform.machine()
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return digest({name: value for name, value in cpu_facts().items() if name in wanted})
