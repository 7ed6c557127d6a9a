"""The runs of a table as other tools take them: a name, what they are, numbers by epoch.

Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.log import logger
from benchmark.results.report import Report
from benchmark.run.directory import RunDir

# What a record holds beside the numbers of an epoch.
_NO_NUMBERS = ("schema", "epoch")
_WHAT = (
    *("row", "column", "dataset", "teacher", "student", "methods", "seed", "state"),
    *("epochs", "batch_size", "lr", "weight_decay", "precision", "device", "commit"),
)


@dataclass(frozen=True)
class ExportedRun:
    """A run that stands in a table.

    ``row`` and ``column``: the first place where it stands; ``what``: all that decides its numbers,
    flat; ``results``: its accuracies in percent; ``epochs``: (epoch, numbers by name), in order;
    ``ended``: when it was last written to, in seconds since 1970.
    """

    key: str
    row: str
    column: str
    what: Mapping[str, str | float | bool]
    results: Mapping[str, float]
    epochs: tuple[tuple[int, Mapping[str, float]], ...]
    ended: float


def exported_runs(report: Report) -> list[ExportedRun]:
    """Return each run of a filled table once, by key.

    A run whose records cannot be read is left out, and said. Raises UserError if none is left.
    """
    found: dict[str, ExportedRun] = {}
    for record in report.rows().to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        key = str(row["run"])
        if key in found:
            continue
        rundir = RunDir(report.runs_dir, key)
        try:
            records = rundir.read_records()
            ended = rundir.records.stat().st_mtime if records else rundir.cell.stat().st_mtime
        except (OSError, UserError) as error:
            logger.warning("%s is left out: %s", key, error)
            continue
        epochs = tuple((int(r["epoch"]), numbers_of(r)) for r in records if "epoch" in r)
        results = {
            name: float(value)
            for name, value in row.items()
            if name.startswith(("top1_", "top5_")) and isinstance(value, float) and value == value
        }
        what = dict(_flat(_what(row)))
        place = str(row["row"]), str(row["column"])
        found[key] = ExportedRun(key, *place, what, results, epochs, ended)
    if not found:
        raise UserError(f"there is nothing to export: no runs of {report.grid.name} were found")
    return [found[key] for key in sorted(found)]


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return an epoch's numbers by name: losses as ``loss/NAME``, further outputs below theirs."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if name == "losses":
            found |= {f"loss/{part}": float(v) for part, v in value.items() if v is not None}
        elif name == "outputs":
            for output, values in value.items():
                found |= {f"outputs/{output}/{k}": v for k, v in numbers_of(values).items()}
        elif name not in _NO_NUMBERS and isinstance(value, int | float):
            found[name] = float(value)
    return found


def _what(row: Mapping[str, Any]) -> dict[str, Any]:
    what = {name: row[name] for name in _WHAT}
    what |= json.loads(row["options"] or "{}")
    what["overrides"] = row["overrides"]
    return what


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | float | bool]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool | str | int | float):
            if value == value and value != "":  # pandas writes what is not there as NaN
                yield prefix + name, value
        elif value is not None:
            yield prefix + name, json.dumps(value)


def seconds_before_end(run: ExportedRun) -> Sequence[float]:
    """Return for each epoch how many seconds before the last one it ended."""
    left, found = 0.0, []
    for _, numbers in reversed(run.epochs):
        found.append(left)
        left += numbers.get("seconds", 0.0)
    return found[::-1]
