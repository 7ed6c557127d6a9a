"""Public teacher checkpoints: which there are, and which lie on this machine.

checkpoints/registry.yaml and the user's own registry list them; the files themselves are never
committed. Imports no torch: train/verify.py measures a teacher's accuracy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from benchmark.base.errors import UserError, unknown
from benchmark.base.files import make_directory, open_regular, read_json, write_json
from benchmark.base.machine import own_cache_dir
from benchmark.base.shipped import shipped, user_folder
from benchmark.base.yamlfile import load_yaml, validate
from benchmark.table.recipe import Count, Number, Positive, Strict

REGISTRY = shipped("checkpoints/registry.yaml")


Three = tuple[Number, Number, Number]


class Preprocessing(Strict):
    """How images reach a teacher: the crop that its accuracy was measured with, and mean and std.

    The short side is resized to ``resize``, then the centre ``input_size`` is cut. While it
    teaches it gets its students' crops; their normalisation is turned into its own.
    """

    mean: Three = (0.485, 0.456, 0.406)
    std: Three = (0.229, 0.224, 0.225)
    input_size: Positive = 224
    resize: Positive = 256
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class MeasuredAccuracy(Strict):
    """What a teacher gets right on data other than the official test set, by its digest."""

    digest: str
    correct: Count
    images: Positive


class RegisteredTeacher(Strict):
    """One public checkpoint: ``file`` is its path below the teachers directory.

    ``accuracy``: its published top-1 in percent; ``sha256``: known once somebody has verified
    the file, or the beginning of it that its publisher put in the name. ``preprocessing`` is
    for photographs. ``classes`` imagenet: it knows all 1000 of them, whatever the dataset has.
    """

    dataset: str
    model: str
    file: str
    url: str | None = None
    archive: str | None = None
    sha256: str | None = Field(None, pattern=r"^([0-9a-f]{8}|[0-9a-f]{64})$")
    accuracy: Number
    license: str
    source: str
    preprocessing: Preprocessing | None = None
    classes: Literal["imagenet"] | None = None
    measured: tuple[MeasuredAccuracy, ...] = ()


class Registry(Strict):
    """A registry file, such as checkpoints/registry.yaml."""

    schema_: int = Field(alias="schema")
    teachers: tuple[RegisteredTeacher, ...]


def teachers_dir() -> Path:
    """Return where checkpoints lie: BENCH_TEACHERS or checkpoints/teachers."""
    return Path(os.environ.get("BENCH_TEACHERS", "checkpoints/teachers"))


def registry_files() -> tuple[Path, ...]:
    """Return the registries that are read: the user's own, if there is one, and the shipped one.

    The user's own is the file BENCH_REGISTRY, else ``registry.yaml`` in the user's own folder.
    """
    named, folder = os.environ.get("BENCH_REGISTRY"), user_folder()
    if named:
        return Path(named), REGISTRY
    own = folder / "registry.yaml" if folder else None
    return (own, REGISTRY) if own is not None and own.is_file() else (REGISTRY,)


def registry() -> Registry:
    """Return the known teachers; the user's own entry for a network replaces the shipped one."""
    return _merged(registry_files())


@cache
def _merged(files: tuple[Path, ...]) -> Registry:
    found: dict[tuple[str, str], RegisteredTeacher] = {}
    read = [validate(Registry, load_yaml(path), str(path)) for path in files]
    for teacher in (teacher for one in reversed(read) for teacher in one.teachers):
        found[teacher.dataset, teacher.model] = teacher
    return read[-1].model_copy(update={"teachers": tuple(found.values())})


def registered(dataset: str, model: str) -> RegisteredTeacher | None:
    """Return the public checkpoint of a network on a dataset, if one is known."""
    for teacher in registry().teachers:
        if (teacher.dataset, teacher.model) == (dataset, model):
            return teacher
    return None


def publicity(dataset: str, model: str, digest: str) -> Literal["public", "own", "unverified"]:
    """Say what a teacher's file is, by its sha256, whatever the place it lies in.

    ``public``: the shipped registry holds its digest. ``own``: the user's own registry names the
    network's file, or the shipped one holds another digest. ``unverified``: nobody knows.
    """
    shipped_ones = [t for t in _merged((REGISTRY,)).teachers if t.model == model]
    shipped_ones = [t for t in shipped_ones if t.dataset == dataset or t.classes == "imagenet"]
    if any(t.sha256 is not None and digest.startswith(t.sha256) for t in shipped_ones):
        return "public"
    known = registered(dataset, model)
    replaced = known is not None and known not in _merged((REGISTRY,)).teachers
    return "own" if replaced or any(t.sha256 for t in shipped_ones) else "unverified"


def checkpoint_file(teacher: RegisteredTeacher) -> Path | None:
    """Return the checkpoint's path where the file lies on this machine."""
    path = teachers_dir() / teacher.file
    return path if path.is_file() else None


def checkpoint_digest(teacher: RegisteredTeacher) -> str | None:
    """Return the sha256 of the file on this machine, None if there is none.

    Raises UserError if the registry knows another digest: that file is not this teacher.
    """
    path = checkpoint_file(teacher)
    if path is None:
        return None
    found = path_digest(path)
    if teacher.sha256 is not None and not found.startswith(teacher.sha256):
        raise UserError(
            f"{path} is not the registered {teacher.model}: its sha256 is {found[:12]}...,"
            f" the registry has {teacher.sha256[:12]}...; delete it or correct the registry"
        )
    return found


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, read from its first to its last byte."""
    with open_regular(path) as file:
        return content_digest(file)


def content_digest(file: IO[bytes]) -> str:
    """Return the sha256 of what is left of an open file."""
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def path_digest(path: Path) -> str:
    """Return a file's sha256, hashed once and kept among the user's own caches.

    Nobody else writes there. It holds for the file's size, number and change time, which cannot
    be set back.
    """
    stat = path.stat()
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    note = own_cache_dir() / "digests" / f"{name}.json"
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino]
    try:
        kept = read_json(note, 1)
        if kept["stamp"] == stamp and re.fullmatch("[0-9a-f]{64}", kept["sha256"]):
            return str(kept["sha256"])
    except (UserError, KeyError, TypeError):
        pass  # no usable note: hash the file
    found = file_digest(path)
    with contextlib.suppress(OSError, UserError):  # without it the next command takes longer
        make_directory(note.parent)
        write_json(note, {"schema": 1, "stamp": stamp, "sha256": found})
    return found


def chosen(dataset: str, model: str | None) -> list[RegisteredTeacher]:
    """Return the registered teachers of a dataset, or the one of that name.

    Raises UserError with the nearest guess if there is none.
    """
    found = [t for t in registry().teachers if t.dataset == dataset]
    if not found:
        raise unknown("dataset", dataset, {t.dataset for t in registry().teachers}, "the registry")
    if model is None:
        return found
    named = [t for t in found if t.model == model]
    if not named:
        raise unknown("registered teacher", model, [t.model for t in found])
    return named


def describe_teachers(dataset: str | None = None) -> str:
    """Return the registry for people: a line a checkpoint, with what lies on this machine."""
    lines = [f"in {teachers_dir()}:"]
    for teacher in registry().teachers if dataset is None else chosen(dataset, None):
        there = "there" if checkpoint_file(teacher) else "missing"
        lines.append(
            f"{teacher.dataset:10} {teacher.model:12} {teacher.accuracy:6.2f} %  {there:8}"
            f" {teacher.file}"
        )
    return "\n".join(lines)
