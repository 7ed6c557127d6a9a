"""The code that jobs run: a copy taken at submission, so that later edits change nothing.

An editable install would run the working tree as it is when a job starts; the copy stands
first on PYTHONPATH instead. Equal code is kept once. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import write_json
from benchmark.base.git import git
from benchmark.base.inside import check_own, folder_of
from benchmark.base.shipped import code_root, is_installed
from benchmark.base.trust import own_name
from benchmark.submission.own_copy import digest_of, read_copy

ROOT = code_root()
# What a running job reads; everything else in the tree is left out. An installed package holds
# its tables, and what lies beside it (a folder named tables, say) is not ours.
_SHIPPED = (
    ("benchmark",) if is_installed() else ("benchmark", "tables", "checkpoints/registry.yaml")
)
_SKIPPED_FOLDERS = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})
_LARGEST_FILE = 2_000_000
_LARGEST_TREE = 20_000_000


@dataclass(frozen=True)
class CodeCopy:
    """A copy of the code at ``path``; ``dirty`` is the digest of what differs from ``commit``.

    ``digest``: of its files, by which a task knows what it starts.
    """

    path: Path
    digest: str
    commit: str | None
    dirty: str | None

    @property
    def environment(self) -> dict[str, str]:
        """What a job records as its origin."""
        return {"BENCH_COMMIT": self.commit or "", "BENCH_DIRTY": self.dirty or ""}


def code_store(runs_dir: Path) -> Path:
    """Return where a user's copies lie: beside the runs, since compute nodes see those."""
    return runs_dir.absolute() / ".code" / own_name()


def check_importable(store: Path) -> None:
    """Refuse a place that PYTHONPATH cannot name: tasks would run other code than its copy."""
    if os.pathsep in str(store):
        raise UserError(
            f"{store} holds a '{os.pathsep}', at which PYTHONPATH would be cut, and tasks would run"
            " other code than the copy that they are given; choose another runs directory"
        )


def take_snapshot(store: Path, root: Path = ROOT, write: bool = True) -> CodeCopy:
    """Copy the code below ``root`` into a folder of ``store`` that is named by its content.

    The copy also holds ``origin.json`` (commit, installed versions) and ``changes.diff`` (what
    differs from the commit). Without ``write`` only its name is found. Raises UserError where
    there are files too large to be code.
    """
    check_importable(store)
    contents = _read_tree(root)
    commit = git(root, "rev-parse", "HEAD")
    changes = _changes(root, contents) if commit else ""
    dirty = hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None
    digest = digest_of(contents)
    # The same files may belong to two commits; each result names its own.
    name = hashlib.sha256(f"{digest} {commit} {dirty}".encode()).hexdigest()[:16]
    path = store / name
    if write:
        _check_no_strangers_link(store.parent)
    if write and path.exists():
        check_own(store)
        check_own(path)
        if digest_of(read_copy(str(path))) != digest:
            raise UserError(f"{path} is not the code that it is named by: remove it")
        os.utime(path)  # so that nobody takes it for an old one before its next use is recorded
    elif write:
        store.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_own(store)
        origin = {"commit": commit, "dirty": dirty, "installed": _installed()}
        _write_tree(path, contents, {"schema": 1, **origin}, changes)
    return CodeCopy(path, digest, commit, dirty)


def _check_no_strangers_link(folder: Path) -> None:
    """Refuse a folder of everybody's copies that is a link which another user made."""
    with contextlib.suppress(FileNotFoundError), folder_of(folder / "any"):
        pass


def _read_tree(root: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    total = 0
    for path in _files(root):
        size = path.stat().st_size
        total += size
        if size > _LARGEST_FILE or total > _LARGEST_TREE:
            raise UserError(
                f"{path} makes the code that jobs get a copy of too large"
                f" ({total / 1e6:.0f} MB); keep data out of {', '.join(_SHIPPED)}"
            )
        contents[str(path.relative_to(root))] = path.read_bytes()
    return contents


def _files(root: Path) -> Iterator[Path]:
    for name in _SHIPPED:
        start = root / name
        if start.is_file():
            yield start
        for folder, inner, files in os.walk(start):
            inner[:] = sorted(set(inner) - _SKIPPED_FOLDERS)
            yield from (Path(folder) / file for file in sorted(files))


def _write_tree(
    path: Path, contents: dict[str, bytes], origin: dict[str, object], changes: str
) -> None:
    # Written under another name first: a folder of the final name is always complete.
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=path.parent))
    try:
        for name, content in contents.items():
            target = draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        write_json(draft / "origin.json", origin)
        (draft / "changes.diff").write_text(changes, encoding="utf-8")
        with contextlib.suppress(OSError):  # somebody else wrote the same just now
            draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    assert path.is_dir(), f"{path} could not be written"


def _changes(root: Path, contents: dict[str, bytes]) -> str:
    """What differs from the commit: a diff, then new files whole."""
    text = git(root, "diff", "HEAD", "--", *_SHIPPED) or ""
    new = git(root, "ls-files", "--others", "--exclude-standard", "--", *_SHIPPED) or ""
    for name in new.splitlines():
        if name in contents:
            text += f"\nnew file {name}\n" + contents[name].decode(errors="replace")
    return text


def _installed() -> dict[str, str]:
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {name: found[name] for name in sorted(found) if name}
