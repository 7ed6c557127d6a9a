"""Submit a table: expand it, drop what is there already, pack the rest, hand it to an executor.

The executors (in this process, on this machine, on a cluster) get the same packs as JSON and
know nothing of tables; nothing here knows where they run. Imports no torch.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from benchmark.errors import UserError
from benchmark.files import make_directory, write_json
from benchmark.matrix import Plan
from benchmark.packs import DEFAULT_PACK, Pack, make_packs
from benchmark.rundir import RunDir
from benchmark.runs import Run


@dataclass(frozen=True)
class Submission:
    """Packs on their way to an executor, in a private folder of their own."""

    table: str
    nonce: str
    folder: Path
    runs_dir: Path
    data_dir: Path
    packs: tuple[Pack, ...]
    plugins: tuple[Path, ...] = ()
    reader: str | None = None

    def pack_file(self, pack: Pack) -> Path:
        """Return where a pack's JSON lies."""
        return self.folder / "packs" / f"{pack.id}.json"

    def write(self) -> None:
        """Create the folder (0700: nobody else may write what a job will read) and the packs."""
        make_directory(self.folder.parent)
        self.folder.mkdir(mode=0o700)
        (self.folder / "packs").mkdir(mode=0o700)
        (self.folder / "logs").mkdir(mode=0o700)
        for pack in self.packs:
            content = pack.to_json(self.plugins) | {
                "runs_dir": str(self.runs_dir.resolve()),
                "data_dir": str(self.data_dir.resolve()),
                "reader": self.reader,
            }
            write_json(self.pack_file(pack), content)


class Executor(Protocol):
    """Runs the packs of a submission somewhere."""

    def announce(self, submission: Submission) -> list[str]:
        """Return the lines to show before anything starts: where, how much, how long."""

    def start(self, submission: Submission, wait: bool) -> int:
        """Start the packs; with ``wait`` return their exit code (0 or 1), else 0 at once."""


@dataclass
class Remaining:
    """What of a plan is left to train, and what is not and why."""

    runs: list[Run] = field(default_factory=list)
    done: list[Run] = field(default_factory=list)
    held: list[Run] = field(default_factory=list)
    cancelled: list[Run] = field(default_factory=list)


def remaining(plan: Plan, runs_dir: Path, again: Iterable[str] = ()) -> Remaining:
    """Sort a plan's runs by what is there; ``again`` are keys whose cancellation is lifted."""
    found = Remaining()
    lifted = set(again)
    for run in plan.runs:
        rundir = RunDir(runs_dir, run.key)
        state = rundir.state()
        if state in ("done", "diverged"):
            found.done.append(run)
        elif state == "running":
            found.held.append(run)
        elif state == "cancelled" and run.key not in lifted:
            found.cancelled.append(run)
        else:
            found.runs.append(run)
    return found


def plan_packs(plan: Plan, runs: list[Run], size: int = DEFAULT_PACK) -> list[Pack]:
    """Pack the runs of a plan that are left."""
    teachers = [run.key for run in plan.teachers]
    return make_packs(plan.table.name, runs, teachers, size)


def new_submission(
    table: str,
    packs: list[Pack],
    runs_dir: Path,
    data_dir: Path,
    plugins: Iterable[Path] = (),
    reader: str | None = None,
) -> Submission:
    """Return a submission with a folder name of its own; nothing is written yet."""
    nonce = secrets.token_hex(6)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    folder = runs_dir / ".submissions" / f"{table}-{stamp}-{nonce}"
    return Submission(
        table=table,
        nonce=nonce,
        folder=folder,
        runs_dir=runs_dir,
        data_dir=data_dir,
        packs=tuple(packs),
        plugins=tuple(plugins),
        reader=reader,
    )


def check_before_queue(plan: Plan, data_dir: Path, runs_dir: Path) -> None:
    """Refuse what would fail later: missing data, unwritable directories, untrainable tables.

    Raises UserError.
    """
    from benchmark.data.datasets import require_dataset

    if not plan.table.trainable:
        raise UserError(
            f"table {plan.table.name} can be shown and collected, but its protocol cannot be"
            " trained yet"
        )
    for name in sorted({run.dataset.name for run in plan.runs}):
        require_dataset(name, data_dir)
    make_directory(runs_dir)


def summary(packs: Iterable[Pack]) -> dict[str, Any]:
    """Return counts for people: packs, runs, of which teachers."""
    found = list(packs)
    return {
        "packs": len(found),
        "runs": sum(len(pack.runs) for pack in found),
        "waiting": sum(1 for pack in found if pack.depends),
    }
