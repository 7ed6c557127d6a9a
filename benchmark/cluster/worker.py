"""Train the packs of a submission in this process: the entry point of every executor's job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.train.pack import Outcome
    from benchmark.train.report import Reporter


def run_pack_file(
    path: Path,
    stop: Callable[[], str | None] = lambda: None,
    reporter: Callable[[], Reporter] | None = None,
    checkpoint_seconds: float = 300.0,
) -> Outcome:
    """Train the pack described by a JSON file. Raises UserError where it cannot be read."""
    from benchmark.train.pack import Surroundings, train_pack
    from benchmark.train.report import default_reporter

    try:
        data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the pack {path}: {error}") from error
    where = Surroundings(
        runs_dir=Path(data["runs_dir"]),
        data_dir=Path(data["data_dir"]),
        reader=data["reader"],
        checkpoint_seconds=checkpoint_seconds,
        stop=stop,
        reporter=reporter or default_reporter,
    )
    return train_pack(data, where)


def run_pack_in_job(path: str) -> dict[str, Any]:
    """Train a pack as a job of a local queue; what it returns crosses processes as plain data."""
    from benchmark.train.report import Lines

    try:
        outcome = run_pack_file(Path(path), reporter=Lines)
    except UserError as error:
        return {"exit_code": 2, "endings": {}, "reasons": {"": str(error)}}
    return {
        "exit_code": outcome.exit_code,
        "endings": dict(outcome.endings),
        "reasons": dict(outcome.reasons),
    }
