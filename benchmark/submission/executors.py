"""Which executors there are: a module of this folder each, or a file of one's own.

Either has a function ``executor(profile)`` that returns an Executor. Imports no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

from benchmark.base.errors import UserError, unknown
from benchmark.base.machine import default_cluster
from benchmark.run import directory
from benchmark.submission.submission import Executor

CLUSTERS = ("slurm", "local", "inline")


class Directories(NamedTuple):
    """Where runs and data lie."""

    runs: Path
    data: Path


def executor_for(cluster: str | None, profile: str | None, dry_run: bool = False) -> Executor:
    """Return an executor by its name, or by the path of a file that defines one.

    For a ``dry_run`` no Slurm has to be at hand. Raises UserError for an unknown cluster or
    profile.
    """
    name = cluster or default_cluster()
    own = name.endswith(".py")
    if name not in CLUSTERS and not own:
        raise unknown("cluster", name, CLUSTERS, "--cluster")
    if profile is not None and name in ("local", "inline"):
        raise UserError(f"--profile belongs to --cluster slurm, not to {name}")
    module = _load(Path(name)) if own else importlib.import_module(f"benchmark.submission.{name}")
    if dry_run and name == "slurm":
        return cast(Executor, module.executor_for_show(profile))
    return cast(Executor, module.executor(profile))


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"--cluster {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"_executor_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a file of the user's does
        del sys.modules[spec.name]
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"--cluster {path} cannot be loaded: {reason}") from error
    if not callable(getattr(module, "executor", None)):
        raise UserError(f"--cluster {path} defines no function executor(profile)")
    return module


def directories(executor: Executor, runs_dir: Path | None, data_dir: Path | None) -> Directories:
    """Return where runs and data lie: as the user said, else as the executor, else as usual."""
    return Directories(
        runs_dir or executor.runs_dir or directory.runs_dir(),
        data_dir or executor.data_dir or directory.data_dir(),
    )
