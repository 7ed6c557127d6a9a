"""Files of the user's own that define methods and networks: loaded once, and looked for by name."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterable
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.shipped import user_folder

_LARGEST = 1 << 20  # bytes of a file that is looked into for a name
_MOST = 200  # files of a folder
# What plug-ins of earlier versions import, and where it lies now.
_MOVED = {
    "benchmark.errors": "benchmark.base.errors",
    "benchmark.recipe": "benchmark.table.recipe",
    "benchmark.runs": "benchmark.run.identity",
}


def file_version(path: Path) -> str:
    """Return the digest of a plug-in's file: nobody raises a number while experimenting."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"cannot read the plug-in {path}: {error.strerror}") from error


def load_file(path: Path) -> types.ModuleType:
    """Import a plug-in's file under a name of its content; the same content is imported once."""
    name = f"benchmark_plugin_{path.stem}_{file_version(path)}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            del sys.modules[name]
            raise _moved(path, error) from error
        except BaseException:  # half a module would be taken for a whole one next time
            del sys.modules[name]
            raise
    return sys.modules[name]


def _moved(path: Path, error: ModuleNotFoundError) -> Exception:
    """Return what to write instead of a module of an earlier version; any other error as it is."""
    gone = error.name or ""
    if gone not in _MOVED:
        return error
    return UserError(f"{path} imports {gone}, which is {_MOVED[gone]} now; change the import")


def named_plugins() -> list[Path]:
    """Return the plug-ins that BENCH_PLUGINS names, separated as the paths of PATH are."""
    named = os.environ.get("BENCH_PLUGINS", "")
    return [Path(part) for part in named.split(os.pathsep) if part]


def forgotten(name: str, loaded: Iterable[Path]) -> str:
    """Return how to add the file that defines an unknown method or network, empty without one.

    Looked at are the files of this folder and of ``plugins`` in the user's own; none is run.
    """
    known = {path.resolve() for path in loaded}
    own = user_folder()
    for folder in (Path(), *([own / "plugins"] if own else [])):
        for path in sorted(folder.glob("*.py"))[:_MOST]:
            if path.resolve() not in known and _defines(path, name):
                return (
                    f"; {path} defines it: add --plugin {path}, `plugins: [{path}]` to the table,"
                    " or set BENCH_PLUGINS"
                )
    return ""


def _defines(path: Path, name: str) -> bool:
    try:
        if path.stat().st_size > _LARGEST:
            return False
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    network = re.search(rf"^@model\b.*\n(?:@.*\n)*def {re.escape(name)}\(", text, re.MULTILINE)
    return network is not None or (path.stem == name and "MethodOptions" in text)
