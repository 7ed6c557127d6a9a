"""Checkpoints on disk: tensors and plain values only, written so that none is ever lost."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular, replacing
from benchmark.base.inside import rename, unlink
from benchmark.models.checkpoint import refuse_packed, unreadable
from benchmark.run.directory import RunDir
from benchmark.run.identity import SCHEMA


class CheckpointError(UserError):
    """A checkpoint could not be written or read; the message names the file."""


def save(rundir: RunDir, state: dict[str, Any]) -> None:
    """Write a checkpoint; the previous one stays until the new one is verified.

    Raises CheckpointError (a full disk, say) with the old checkpoint still in place.
    """
    path, previous = rundir.checkpoint, rundir.previous_checkpoint
    fresh = rundir.next_checkpoint
    _write(fresh, state)
    if path.exists():
        rename(path, previous.name)
    rename(fresh, path.name)


def save_copy(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint to keep, apart from the newest one."""
    _write(path, state)


def load(rundir: RunDir) -> dict[str, Any] | None:
    """Return the newest readable checkpoint, or None if the run never wrote one.

    A torn newest file falls back to the previous one. Raises CheckpointError if files are
    there and none is readable, or they belong to another run.
    """
    return _newest(rundir, read)


def check(rundir: RunDir) -> None:
    """Raise CheckpointError where :func:`load` would; the tensors themselves are not read."""
    _newest(rundir, partial(read, whole=False))


def _newest(rundir: RunDir, reader: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
    problems = []
    for path in (rundir.checkpoint, rundir.previous_checkpoint):
        if not path.exists():
            continue
        try:
            state = reader(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if state.get("key") != rundir.key:
            raise CheckpointError(f"{path} belongs to run {state.get('key')}, not {rundir.key}")
        return state
    if problems:
        raise CheckpointError(f"{'; '.join(problems)}; move the run directory away to start anew")
    return None


def read(path: Path, whole: bool = True) -> dict[str, Any]:
    """Read a checkpoint file without executing anything in it; ``whole``: verify every byte."""
    try:
        refuse_packed(path)
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            broken = archive.testzip() if whole else None
        if broken is not None:
            raise CheckpointError(f"{path} is damaged ({broken})")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=not whole)
    except CheckpointError:
        raise
    except Exception as error:  # torch.load raises many kinds for broken or foreign files
        raise CheckpointError(f"{path} {unreadable(error)}") from error
    if not isinstance(state, dict) or not isinstance(state.get("schema"), int):
        raise CheckpointError(f"{path} is not a checkpoint of this project")
    if not SCHEMA - 1 <= state["schema"] <= SCHEMA:
        raise CheckpointError(f"{path} has schema {state['schema']}, this version reads {SCHEMA}")
    return state


def _write(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with replacing(path) as file:
            file.write(buffer.getbuffer())
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise CheckpointError(f"{path} was not written correctly ({broken})")
    except OSError as error:
        with contextlib.suppress(OSError):
            unlink(path)
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error.strerror or error};"
            " the previous checkpoint is still there"
        ) from error
