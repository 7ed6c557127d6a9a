"""Runs as offline runs of Weights & Biases, which `wandb sync` sends when their owner wants it.

wandb itself writes them, told not to reach for a network, to note nothing of this machine, and to
leave this process as it was. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.extras import optional
from benchmark.base.files import make_directory
from benchmark.export.exported import ExportedRun

_LONGEST_ID = 64
_QUIET = "WANDB_ERROR_REPORTING"


def check() -> None:
    """Raise UserError where wandb is not installed."""
    with _without_settings():  # it reads them when it is imported
        optional("wandb", "wandb", "runs for Weights & Biases")


def write(runs: Iterable[ExportedRun], folder: Path, project: str) -> list[Path]:
    """Write ``FOLDER/wandb/offline-run-*`` for each run, and return these folders.

    A run that is exported again takes the place of its earlier export.
    """
    check()
    make_directory(folder)
    with _without_settings():
        import wandb

        try:
            return [_write(run, folder, project) for run in runs]
        finally:
            wandb.teardown()  # the process that wrote for this one


@contextmanager
def _without_settings() -> Iterator[None]:
    """Leave out what a user set for runs of their own (WANDB_MODE, WANDB_TAGS) for a while."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    for name in kept:
        del os.environ[name]
    os.environ[_QUIET] = "false"
    try:
        yield
    finally:
        del os.environ[_QUIET]
        os.environ.update(kept)


def _write(run: ExportedRun, folder: Path, project: str) -> Path:
    import wandb

    name = id_of(run.key)
    for earlier in (folder / "wandb").glob(f"offline-run-*-{name}"):
        shutil.rmtree(earlier)
    try:
        written = wandb.init(
            project=project,
            id=name,
            name=run.key,
            group=f"{run.row} {run.column}",
            job_type=str(run.what.get("methods", "student")),
            config=dict(run.what),
            settings=_settings(folder),
            reinit="create_new",
        )
        written.define_metric("epoch")
        written.define_metric("*", step_metric="epoch")
        for epoch, numbers in run.epochs:
            written.log({"epoch": epoch, **numbers})
        written.summary.update(dict(run.results))
        written.finish()
    except (OSError, wandb.Error) as error:
        raise UserError(f"wandb could not write {run.key} below {folder}: {error}") from error
    return Path(written.dir).parent


def _settings(folder: Path) -> Any:
    import wandb

    return wandb.Settings(
        mode="offline",
        root_dir=str(folder.absolute()),
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
    )


def id_of(key: str) -> str:
    """Return a run's name for wandb, which takes neither all characters nor any length."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in key)
    if plain == key and len(key) <= _LONGEST_ID:
        return key
    end = hashlib.sha256(key.encode()).hexdigest()[:12]
    return f"{plain[: _LONGEST_ID - 13]}-{end}"
