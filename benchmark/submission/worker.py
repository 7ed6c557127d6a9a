"""Train the packs of a submission in this process: the entry point of every executor's job."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.base.errors import UserError

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


def run_pack_in_job(path: str, gpus: Sequence[str]) -> dict[str, Any]:
    """Train a pack as a job of a local queue; what it returns crosses processes as plain data.

    The job sees the GPUs of these names alone. SIGTERM asks it to save its state and end.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # before torch looks at it
    from benchmark.train.report import Lines

    try:
        with stop_on_signal(signal.SIGTERM) as asked:
            outcome = run_pack_file(Path(path), stop=lambda: asked.get("why"), reporter=Lines)
    except UserError as error:
        return {"exit_code": 2, "endings": {}, "reasons": {"": str(error)}}
    return {
        "exit_code": outcome.exit_code,
        "endings": dict(outcome.endings),
        "reasons": dict(outcome.reasons),
    }


@contextmanager
def stop_on_signal(
    *signals: signal.Signals, insisting: Callable[[], None] = lambda: None
) -> Iterator[dict[str, str]]:
    """Turn signals into a request to stop, under "why"; further ones call ``insisting``."""
    asked: dict[str, str] = {}

    def ask(number: int, _frame: object) -> None:
        if asked:
            insisting()
        asked["why"] = signal.Signals(number).name

    before = {s: signal.signal(s, ask) for s in signals}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
