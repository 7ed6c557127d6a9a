"""Read one run directory for collecting: what the run is, how it stands, and its accuracies.

A run's name is a hash of what it is, so a cell.json whose hash is right is taken as it stands,
also where this version of the project would spell it otherwise: such a run belongs to a cell
of its own, whose differences are then named. Everything else that does not fit together (a
result that is truncated, not of this run, or not a percentage) makes a run broken, with the
reason. Imports no torch.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.run.directory import RunDir
from benchmark.run.identity import SCHEMA, DatasetRef, MethodRef, Run, TeacherRef, digest

STATISTICS = ("last", "best", "median_of_last_5", "mean_of_last_5")
METRICS = ("top1", "top5")
# A cell or a result has a few kilobytes; anything far longer is not one of ours.
_LONGEST = 10_000_000


class Stamp(NamedTuple):
    """When a run's files last changed, as text to compare; ``error``: why that cannot be told."""

    text: str
    newest_ns: int
    has_cell: bool
    has_result: bool
    error: str = ""


@dataclass(frozen=True)
class RunRecord:
    """What one directory says; ``cell`` is empty where not even that can be told.

    ``teacher`` is what was planned (a run's key or a checkpoint's digest), ``teacher_file`` the
    start of the digest of the file that was read.
    """

    state: str
    reason: str | None = None
    cell: str = ""
    seed: int = 0
    teacher: str | None = None
    commit: str | None = None
    teacher_file: str | None = None
    val_top1: float | None = None
    values: dict[tuple[str, str], float] = field(default_factory=dict)


def look(root: Path, name: str) -> Stamp | None:
    """Return when a directory's cell and result changed; None where it is no run directory.

    The change time is compared, not the modification time: it cannot be set back.
    """
    found = []
    newest = 0
    for file in ("cell.json", "result.json"):
        try:
            stat = os.stat(f"{root}/{name}/{file}")
        except (FileNotFoundError, NotADirectoryError):
            found.append("-")
        except OSError as error:
            return Stamp("", 0, False, False, f"{root / name} cannot be read: {error.strerror}")
        else:
            found.append(f"{stat.st_ctime_ns}.{stat.st_size}.{stat.st_ino}")
            newest = max(newest, stat.st_ctime_ns)
    if found == ["-", "-"]:
        return None
    return Stamp(" ".join(found), newest, found[0] != "-", found[1] != "-")


def signature(run: Run) -> str:
    """Return what a run and a slot must have in common to belong together, overrides or not."""
    return _signature(run.identity)


def _signature(identity: dict[str, Any]) -> str:
    teacher = identity["teacher"]["model"] if identity["teacher"] else ""
    names = [method["name"] for method in identity["methods"]]
    return "|".join([identity["dataset"]["name"], teacher, identity["model"], *names])


class RunReader:
    """Reads run directories; cells that it has not met are collected in ``new_cells``.

    ``new_cells``: (cell key, signature, identity as JSON), for the index.
    """

    def __init__(self, root: Path, known_cells: set[str]) -> None:
        self.root = root
        self.new_cells: list[tuple[str, str, str]] = []
        self._known = set(known_cells)
        self._slugs: dict[str, str] = {}  # by the cell's digest

    def read(self, name: str, stamp: Stamp) -> RunRecord | None:
        """Return what a directory says, None where it is gone by now."""
        rundir = RunDir(self.root, name)
        if stamp.error:
            return RunRecord("broken", stamp.error)
        if not stamp.has_cell:
            return RunRecord("broken", f"{rundir.path} has a result and no cell.json")
        try:
            data = _read(rundir.cell)
            cell = self._identify(data, rundir)
        except UserError as error:
            gone = not os.path.lexists(rundir.path)
            return None if gone else RunRecord("broken", str(error))
        seed, teacher = data["seed"], (data["teacher"] or {}).get("key")
        if not stamp.has_result:
            return RunRecord("open", None, cell, seed, teacher)
        try:
            result = _read(rundir.result)
            return _finished(result, rundir, cell, seed, teacher)
        except UserError as error:
            gone = not os.path.lexists(rundir.path)
            return None if gone else RunRecord("broken", str(error), cell, seed, teacher)

    def _identify(self, data: dict[str, Any], rundir: RunDir) -> str:
        """Return the key of a run's cell after checking that the directory is that run's."""
        try:
            identity = identity_of(data)
            cell_identity = cell_identity_of(identity)
            cell = digest(cell_identity)
            if cell not in self._slugs:
                self._slugs[cell] = _trusted(identity).slug
                self._learn(f"{self._slugs[cell]}-{cell}", cell_identity)
            slug = self._slugs[cell]
            key = f"{slug}-s{identity['seed']}-{digest(identity)}"
        except KeyError as error:
            reason = f"it has no '{error.args[0]}'"
            raise UserError(f"{rundir.cell} does not describe a run: {reason}") from error
        except ValueError as error:
            raise UserError(f"{rundir.cell} does not describe a run: {error}") from error
        except (TypeError, AttributeError) as error:
            reason = "what it holds is of another form"
            raise UserError(f"{rundir.cell} does not describe a run: {reason}") from error
        if key != rundir.key:
            raise UserError(
                f"{rundir.cell} describes {key}: the directory was renamed, copied or edited"
            )
        return f"{slug}-{cell}"

    def _learn(self, cell: str, identity: dict[str, Any]) -> None:
        if cell not in self._known:
            self._known.add(cell)
            text = json.dumps(identity, sort_keys=True, allow_nan=False)
            self.new_cells.append((cell, _signature(identity), text))


def identity_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return what the key of a cell.json hashes (:attr:`Run.identity`, without validating)."""
    identity = {name: value for name, value in data.items() if name != "schema"}
    identity["recipe"] = {k: v for k, v in data["recipe"].items() if k != "keep_drops"}
    return identity


def cell_identity_of(identity: dict[str, Any]) -> dict[str, Any]:
    """Return an identity without what differs between seeds (:attr:`Run.cell_identity`)."""
    if not (type(identity["seed"]) is int and 0 <= identity["seed"] < 2**63):
        raise ValueError(f"the seed is {identity['seed']!r}")
    found = {name: value for name, value in identity.items() if name != "seed"}
    teacher = found["teacher"]
    if teacher is not None and teacher["source"] == "train":
        found["teacher"] = {name: value for name, value in teacher.items() if name != "key"}
    return found


def _trusted(identity: dict[str, Any]) -> Run:
    # Only for its slug: the hash of the data is what is checked.
    teacher = identity["teacher"]
    fields: dict[str, Any] = {
        "dataset": DatasetRef.model_construct(**identity["dataset"]),
        "model": identity["model"],
        "weights": identity["weights"],
        "teacher": TeacherRef.model_construct(**teacher) if teacher else None,
        "methods": tuple(MethodRef.model_construct(**method) for method in identity["methods"]),
    }
    return Run.model_construct(**fields)


def _read(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > _LONGEST:
            raise UserError(f"{path} has {size} bytes: it is not a file of this project")
        return read_json(path, SCHEMA)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} cannot be read: nested too deeply") from error


def _finished(
    result: dict[str, Any], rundir: RunDir, cell: str, seed: int, teacher: str | None
) -> RunRecord:
    path = rundir.result
    if result.get("key") != rundir.key:
        raise UserError(f"{path} is the result of {result.get('key')}, not of {rundir.key}")
    origin = result.get("provenance")
    commit = origin.get("commit") if isinstance(origin, dict) else None
    commit = commit if isinstance(commit, str) else None
    file = result.get("teacher_digest")
    file = file.removeprefix("sha256:")[:12] if isinstance(file, str) else None
    if result.get("diverged") is True:
        return RunRecord("diverged", None, cell, seed, teacher, commit, file)
    if result.get("diverged") is not False:
        raise UserError(f"{path} is not a complete result: it does not say whether it diverged")
    values = {(m, s): _metric(result, m, s, path) for m in METRICS for s in STATISTICS}
    for metric in METRICS:
        best, last = values[metric, "best"], values[metric, "last"]
        if best < last:
            raise UserError(f"{path}: {metric} best is {best}, which is below the last, {last}")
    held_out = result.get("val_top1")
    return RunRecord(
        "done",
        None,
        cell,
        seed,
        teacher,
        commit,
        file,
        None if held_out is None else _percent(held_out, "val_top1", path),
        values,
    )


def _metric(result: dict[str, Any], metric: str, statistic: str, path: Path) -> float:
    try:
        value = result["metrics"][metric][statistic]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a complete result: it has no {metric} {statistic}"
        ) from error
    return _percent(value, f"{metric} {statistic}", path)


def _percent(value: Any, name: str, path: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 100.0:  # NaN is in no interval
        raise UserError(f"{path}: {name} is {value!r}, not a percentage")
    return float(value)


def broken(rundir: RunDir) -> str | None:
    """Return why a run directory cannot be counted; None where it can, or is not there."""
    stamp = look(rundir.root, rundir.key)
    record = None if stamp is None else RunReader(rundir.root, set()).read(rundir.key, stamp)
    return record.reason if record is not None and record.state == "broken" else None
