"""Packs as job arrays: which packs share an array, and the file in which tasks find theirs.

Imports no torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import write_text

PackData = Mapping[str, Any]  # Pack.to_json(): id, label and depends are read here
_OFFSET = struct.Struct("<Q")


class ArrayPlan(NamedTuple):
    """Packs for one array, and the ids of the packs that must have ended before it starts."""

    packs: tuple[PackData, ...]
    after: tuple[str, ...]


def plan_arrays(
    packs: Sequence[PackData],
    size: int,
    elsewhere: Collection[str] = (),
    needs: Callable[[PackData], Hashable] = lambda pack: None,
) -> list[ArrayPlan]:
    """Split packs into arrays of at most ``size`` tasks, in an order in which they can be sent.

    Packs that wait for nothing come first, teachers and independent students together; then
    one array (or a few, if it is long) for the students of each missing teacher. That is at
    most ceil(packs / size) + missing teachers arrays. ``elsewhere``: the ids of packs that
    were sent earlier and have not ended. ``needs``: what the packs of an array must have in
    common besides.
    """
    known = {pack["id"] for pack in packs} | set(elsewhere)
    groups: dict[tuple[tuple[str, ...], Hashable], list[PackData]] = {}
    for pack in packs:
        after = tuple(sorted(name for name in pack["depends"] if name in known))
        groups.setdefault((after, needs(pack)), []).append(pack)
    plans: list[ArrayPlan] = []
    sent = set(elsewhere)
    while groups:
        ready = sorted(
            (kind for kind in groups if sent.issuperset(kind[0])), key=lambda kind: bool(kind[0])
        )
        assert ready, "packs wait for each other in a cycle"
        for kind in ready:
            group = groups.pop(kind)
            chunks = [group[start : start + size] for start in range(0, len(group), size)]
            plans += [ArrayPlan(tuple(chunk), kind[0]) for chunk in chunks]
            sent.update(pack["id"] for pack in group)
    return plans


def write_array(path: Path, packs: Sequence[PackData]) -> None:
    """Write packs to ``path``, one JSON line each, and where each line starts beside it.

    With the second file a task reads its own pack alone, however long the array is.
    """
    offsets = [0]
    with path.open("wb") as file:
        for pack in packs:
            file.write(json.dumps(pack, allow_nan=False, separators=(",", ":")).encode() + b"\n")
            offsets.append(file.tell())
    _offsets_file(path).write_bytes(b"".join(_OFFSET.pack(offset) for offset in offsets))


def write_index(folder: Path, number: int, packs: Sequence[PackData]) -> None:
    """Write the index of array ``number``; packs are Pack.to_json()."""
    rows = [
        [pack["id"], pack["label"], *(list(pack.get(name, ())) for name in ("keys", "cells"))]
        for pack in packs
    ]
    write_text(index_file(folder, number), json.dumps(rows, separators=(",", ":")))


def index_file(folder: Path, number: int) -> Path:
    """Return where the index of array ``number`` lies."""
    return folder / f"array-{number}.index.json"


def read_pack(path: Path, number: int) -> dict[str, Any]:
    """Return the pack of task ``number``; UserError where the files do not hold it."""
    try:
        with _offsets_file(path).open("rb") as file:
            file.seek(number * _OFFSET.size)
            start, stop = (_OFFSET.unpack(file.read(_OFFSET.size))[0] for _ in range(2))
        with path.open("rb") as file:
            file.seek(start)
            pack: dict[str, Any] = json.loads(file.read(stop - start))
    except (OSError, ValueError, struct.error) as error:
        raise UserError(f"cannot read task {number} of {path}: {error}") from error
    return pack


def _offsets_file(path: Path) -> Path:
    return path.with_suffix(".offsets")
