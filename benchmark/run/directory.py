"""The directory of one run: every path in it, and what state it is in.

Paths come from here alone. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from benchmark.base.errors import UserError, nearest
from benchmark.base.files import make_directory, read_bytes, read_json, write_json
from benchmark.base.inside import check_own
from benchmark.base.words import count
from benchmark.base.yamlfile import validate
from benchmark.run.identity import SCHEMA, Run

# A line an epoch, of about a kilobyte.
_LONGEST_RECORDS = 200_000_000


def runs_dir() -> Path:
    """Return where runs lie: BENCH_RUNS or checkpoints/runs."""
    return Path(os.environ.get("BENCH_RUNS", "checkpoints/runs"))


def data_dir() -> Path:
    """Return where datasets lie: BENCH_DATA or checkpoints/data."""
    return Path(os.environ.get("BENCH_DATA", "checkpoints/data"))


@dataclass(frozen=True)
class RunDir:
    """All that one run leaves behind, below the runs directory."""

    root: Path
    key: str

    @property
    def path(self) -> Path:
        """The run's own directory."""
        return self.root / self.key

    @property
    def cell(self) -> Path:
        """What the run is: the Run as JSON."""
        return self.path / "cell.json"

    @property
    def provenance(self) -> Path:
        """Where it ran: commit, versions, hardware, one entry a start."""
        return self.path / "provenance.json"

    @property
    def records(self) -> Path:
        """One JSON line an epoch."""
        return self.path / "records.jsonl"

    @property
    def probes(self) -> Path:
        """One JSON line an epoch and probe; only of runs with ``recipe.probes``."""
        return self.path / "probes.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "last.pt"

    @property
    def next_checkpoint(self) -> Path:
        """Where a checkpoint is written until it is verified."""
        return self.path / "next.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The one before it, kept until the new one is verified."""
        return self.path / "previous.pt"

    def drop_checkpoint(self, epoch: int) -> Path:
        """The checkpoint kept at a drop of the learning rate, after ``epoch`` epochs."""
        return self.path / f"epoch{epoch:04d}.pt"

    def drop_checkpoints(self) -> list[Path]:
        """The checkpoints kept at drops of the learning rate, as far as there are any."""
        return sorted(self.path.glob("epoch[0-9][0-9][0-9][0-9].pt"))

    @property
    def weights(self) -> Path:
        """The trained network, alone, with what it is as metadata."""
        return self.path / "student.safetensors"

    @property
    def extras(self) -> Path:
        """What was trained beside it: parts of its methods, averaged weights; often nothing."""
        return self.path / "extras.safetensors"

    @property
    def result(self) -> Path:
        """The result, written once, last."""
        return self.path / "result.json"

    @property
    def failure(self) -> Path:
        """Why the last attempt ended without a result."""
        return self.path / "failure.json"

    @property
    def lease(self) -> Path:
        """Who holds the run; renewed by heartbeat."""
        return self.path / "lease.json"

    @property
    def cancelled(self) -> Path:
        """Present while the run is cancelled: it neither starts nor requeues."""
        return self.path / "cancelled"

    # -- what is trained reads and writes ---------------------------------------------------

    def read_run(self) -> Run:
        """Return the Run that this directory belongs to; UserError if it is unreadable."""
        data = read_json(self.cell, SCHEMA)
        run = validate(Run, data, str(self.cell))
        if run.key != self.key:
            raise UserError(
                f"{self.cell} describes {run.key}, not {self.key}: the directory was renamed"
                " or edited"
            )
        return run

    def read_result(self) -> dict[str, Any]:
        """Return result.json; UserError if it is unreadable."""
        return read_json(self.result, SCHEMA)

    def read_records(self) -> list[dict[str, Any]]:
        """Return the epochs recorded so far; a half-written last line is left out.

        Raises UserError if they cannot be read.
        """
        return _lines_of(self.records, "records of epochs")

    def read_probes(self) -> list[dict[str, Any]]:
        """Return what the run's probes recorded so far, like :meth:`read_records`."""
        return _lines_of(self.probes, "records of probes")

    def create(self, run: Run) -> None:
        """Make the directory for ``run``, or check that it is that run's.

        Raises UserError if it cannot be written, or belongs to other numbers or another user.
        """
        make_directory(self.path)
        check_own(self.path)
        if not self.cell.exists():
            try:
                write_json(self.cell, run.to_json())
            except OSError as error:
                raise UserError(f"cannot write {self.cell}: {error.strerror}") from error
        else:
            self.check(run)

    def check(self, run: Run) -> None:
        """Raise UserError if the directory is there and not that run's."""
        if self.cell.exists() and self.read_run().identity != run.identity:
            raise UserError(f"{self.path} belongs to another run than the one asked for")


def _lines_of(path: Path, what: str) -> list[dict[str, Any]]:
    try:
        lines = read_bytes(path, _LONGEST_RECORDS).decode().split("\n")
    except FileNotFoundError:
        return []
    try:
        # One document is read twice as fast as its lines, and by this reader twice as fast again.
        records: list[dict[str, Any]] = from_json(f"[{','.join(filter(None, lines[:-1]))}]")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path} holds other things than {what}")
    return records


def entries(root: Path) -> list[str]:
    """Return the names of everything in a runs directory that is not hidden, in order.

    Raises UserError if the directory cannot be read; one that is not there is empty.
    """
    try:
        return sorted(name for name in os.listdir(root) if not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read the runs directory {root}: {error.strerror}") from error


def all_rundirs(root: Path) -> Iterator[RunDir]:
    """Yield what may be a run's directory; foreign files and folders are passed over."""
    for name in entries(root):
        rundir = RunDir(root, name)
        if os.path.lexists(rundir.cell):
            yield rundir


def find_run(run: str | Path, root: Path) -> RunDir:
    """Return a run by its key or the path of its directory; UserError with the nearest guess."""
    path = Path(run)
    found = RunDir(path.parent, path.name) if path.is_dir() else RunDir(root, str(run))
    if not found.cell.exists():
        keys = [one.key for one in all_rundirs(root)]
        hint = nearest(str(run), keys)
        raise UserError(f"there is no run '{run}' in {root}{hint} ({count(len(keys), 'run')})")
    return found
