"""Train one epoch of a run again, from a kept checkpoint or from its seed, and compare."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile
from benchmark.train import state
from benchmark.train.pack import Surroundings, train_pack
from benchmark.train.trainee import Trainee

# What differs from machine to machine and from one moment to the next.
_VOLATILE = (
    *("seconds", "data_wait", "teacher_seconds", "student_seconds", "images_per_second"),
    *("packed", "peak_memory_mb"),
)


class Replayed(NamedTuple):
    """An epoch that was trained again.

    ``start``: from what; ``different``: the numbers whose bits differ, by name, with the recorded
    one and the new one.
    """

    run: str
    epoch: int
    start: str
    different: dict[str, tuple[Any, Any]]

    @property
    def apart(self) -> float:
        """The largest relative difference; infinite where something is no number."""
        return max((_apart(*pair) for pair in self.different.values()), default=0.0)


def _copy(folder: Path, target: Path) -> None:
    try:
        shutil.copytree(folder, target)
    except shutil.Error as error:  # such as a pipe in it
        raise UserError(f"cannot copy {folder}: {error.args[0][0][2]}") from error


def replay(rundir: RunDir, data_dir: Path) -> Replayed:
    """Train the epoch behind a run's newest kept checkpoint again, or else its first one.

    In a folder of its own, beside which nothing is touched. Raises UserError where it cannot be
    trained here: other versions of its parts, data or a teacher that is not there, no GPU.
    """
    run, records = rundir.read_run(), rundir.read_records()
    kept = rundir.drop_checkpoints()
    with tempfile.TemporaryDirectory(prefix="bench-replay-") as place:
        own = RunDir(Path(place), run.key)
        own.create(run)
        done = 0
        if kept:
            saved = state.read(kept[-1])
            if saved.get("key") != run.key:
                raise UserError(f"{kept[-1]} belongs to run {saved.get('key')}")
            shutil.copyfile(kept[-1], own.checkpoint)
            size = int(saved["records_bytes"])
            own.records.write_bytes(rundir.records.read_bytes()[:size])
            done = len(own.read_records())
        if run.teacher is not None and run.teacher.key is not None:
            taught = RunDir(rundir.root, run.teacher.key)
            if taught.path.is_dir():
                _copy(taught.path, own.root / taught.key)
        if done >= len(records):
            raise UserError(f"{rundir.records} records no epoch behind {kept[-1].name}")
        begun = own.records.stat().st_size if own.records.exists() else 0

        def stop() -> str | None:
            there = own.records.exists() and own.records.stat().st_size > begun
            return "one epoch was trained again" if there else None

        where = Surroundings(checkpoint_seconds=math.inf, stop=stop, reporter=_Silent)
        outcome = train_pack(_pack(run, own.root, data_dir), where)
        fresh = own.read_records()
    if len(fresh) <= done:
        reason = outcome.reasons.get(run.key, "no epoch was trained")
        raise UserError(f"{run.key} cannot be trained here: {reason}")
    start = kept[-1].name if kept else "its seed"
    return Replayed(run.key, records[done]["epoch"], start, _different(records[done], fresh[done]))


def _pack(run: Run, runs_dir: Path, data_dir: Path) -> PackFile:
    return PackFile(
        id="replay",
        table="replay",
        label=run.slug,
        keys=(run.key,),
        cells=(run.cell_key,),
        runs=(run,),
        runs_dir=runs_dir,
        data_dir=data_dir,
    )


def _different(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*ours, *theirs} - set(_VOLATILE)):
        one, other = ours.get(name), theirs.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= {f"{name}.{part}": v for part, v in _different(one, other).items()}
        elif one != other:
            found[name] = (one, other)
    return found


def _apart(one: Any, other: Any) -> float:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), 1e-12)


class _Silent:
    """A replay says how it ended, and nothing on the way (a PackReporter)."""

    def started(self, label: str, trainees: Sequence[Trainee]) -> None:
        return

    def step(self, trainees: Sequence[Trainee]) -> None:
        return

    def epoch(self, trainee: Trainee, record: dict[str, Any]) -> None:
        return

    def say(self, text: str) -> None:
        return

    def close(self) -> None:
        return
