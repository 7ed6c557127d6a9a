"""Find the files of the user's own teachers on this machine, and what decides their numbers.

Imports no torch unless a tag of timm or torchvision is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError, unknown
from benchmark.base.files import read_bytes
from benchmark.methods.catalog import method_info
from benchmark.table.own_teachers import FileOfTeacher, OwnTeacher, Reads, is_tag
from benchmark.table.selection import Selection
from benchmark.table.spec import Row, Table
from benchmark.table.teachers import path_digest


class FoundFile(NamedTuple):
    """A teacher's file on this machine, by its sha256."""

    sha256: str
    file: FileOfTeacher
    reads: Reads


def find_file(model: str, given: OwnTeacher, where: str) -> FoundFile:
    """Return a teacher's file and its digest; UserError if it is not on this machine."""
    mean, std = given.mean, given.std
    if is_tag(given.path):
        from benchmark.models.pretrained import published

        tagged = published(given.path)
        path = tagged.path
        mean, std = mean or tagged.mean, std or tagged.std
    else:
        path = Path(os.path.abspath(Path(given.path).expanduser()))
        if not path.is_file():
            raise UserError(f"{where}: the file of teacher {model} does not exist: {path}")
    names = _class_names(Path(given.classes).expanduser(), where) if given.classes else ()
    try:
        sha256 = path_digest(path)
    except OSError as error:
        raise UserError(f"{where}: cannot read {path}: {error.strerror}") from error
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] if names else None
    reads = Reads(classes=digest, mean=mean, std=std)
    return FoundFile(sha256, FileOfTeacher(path=path, classes=names), reads)


def _class_names(path: Path, where: str) -> tuple[str, ...]:
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError, UserError) as error:
        raise UserError(f"{where}: cannot read the class names in {path}: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None or not names:
        what = f"names '{repeated}' twice" if repeated else "names no class"
        raise UserError(f"{where}: {path} {what}; it holds the name of a class a line")
    return names


def check_given(table: Table, selection: Selection) -> None:
    """Refuse a --teacher that no column or row of the table has, and files that no row reads."""
    names = {c.teacher for c in table.columns} | {r.teacher for r in table.rows if r.teacher}
    names |= {above.teacher for above in table.teacher.distilled.values()}
    for name in selection.teachers:
        if name not in names:
            raise unknown("teacher", name, names, f"--teacher, table {table.name}")
    where = f"table {table.name}"
    if table.teacher.files and not any(_takes_teacher(row, where) for row in table.rows):
        raise UserError(f"{where}: teacher.files is given, and no row takes a teacher")


def check_read(selection: Selection, read: Collection[str]) -> None:
    """Refuse a --teacher that none of the selected runs reads; ``read``: whose files were asked."""
    for name in selection.teachers:
        if name not in read:
            raise UserError(f"--teacher {name}: no selected run takes the teacher {name}")


def _takes_teacher(row: Row, where: str) -> bool:
    methods = (method_info(use.name, f"{where}, row '{row.name}'") for use in row.methods)
    return row.of == "teacher" or any(method.needs_teacher for method in methods)
