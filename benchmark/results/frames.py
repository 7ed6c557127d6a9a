"""Runs as pandas frames: one row a run, or one row a run and epoch.

What a column cannot hold as it is (options, the parts of a recipe) stands as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.base.errors import UserError
from benchmark.base.files import replacing
from benchmark.base.log import logger
from benchmark.results.collect import Collected
from benchmark.run.directory import RunDir
from benchmark.run.index import RunIndex
from benchmark.run.reading import METRICS, STATISTICS, Reading
from benchmark.run.state import RunState
from benchmark.submission.ends import as_noted, noted_failures
from benchmark.submission.sent import only_shown

if TYPE_CHECKING:
    from pandas import DataFrame

_RUN = ("run", "cell", "dataset", "teacher", "student", "methods", "options", "seed", "state")
_VALUES = tuple(f"{metric}_{name}" for metric in METRICS for name in STATISTICS)
_RECIPE = ("epochs", "batch_size", "lr", "weight_decay", "precision", "device")
_ORIGIN = ("val_top1", "teacher_run", "commit", "reason")


def runs_frame(runs_dir: Path) -> DataFrame:
    """Return every run of a directory, one row each. UserError if there is no such directory.

    Of a run whose cell.json cannot be read the row holds name, state and reason.
    """
    if not runs_dir.is_dir():
        raise UserError(f"{runs_dir} is no directory of runs")
    index = RunIndex(runs_dir)
    index.refresh()
    with only_shown():
        noted = noted_failures(runs_dir)
    runs = (as_noted(run, noted) for run in index.all_runs())
    return _frame(_rows(runs, index.all_cells()), _columns())


def table_frame(collected: Collected, runs_dir: Path) -> DataFrame:
    """Return the runs that stand in a table, one row for each place where one stands.

    ``row`` and ``column`` name the place; ``overrides`` is JSON of what differs from the table.
    """
    index = RunIndex(runs_dir)
    index.refresh()
    cells = index.all_cells()
    rows = []
    for (row, column), groups in collected.groups.items():
        for group in groups if (row, column) in collected.places else ():
            place = {"row": row, "column": column, "overrides": _json(group.differences)}
            rows += [place | values for values in _rows(group.runs, cells)]
    return _frame(rows, ("row", "column", "overrides", *_columns()))


def epochs_frame(runs_dir: Path, keys: Iterable[str]) -> DataFrame:
    """Return the recorded epochs of some runs, one row for each run and epoch.

    Losses are columns ``loss.NAME``. A run whose records cannot be read is left out, and said.
    """
    rows = []
    for key in dict.fromkeys(keys):
        rundir = RunDir(runs_dir, key)
        try:
            records = rundir.read_records()
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read: %s", rundir.records, error)
            continue
        rows += [{"run": key, **_flat(record)} for record in records]
    return _frame(rows, ("run", "epoch", "lr", "train_top1", "test_top1", "test_top5", "test_loss"))


def write_frame(frame: DataFrame, path: Path, kind: str) -> None:
    """Write a frame as ``csv`` or ``parquet``. UserError if that cannot be done."""
    try:
        with replacing(path) as file:
            if kind == "csv":
                file.write(frame.to_csv(index=False).encode())
            else:
                frame.to_parquet(file, index=False)
    except ImportError as error:
        raise UserError(
            "parquet files need pyarrow; install it with: pip install 'kd-benchmark[parquet]'"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _columns() -> tuple[str, ...]:
    return (*_RUN, *_VALUES, *_RECIPE, *_ORIGIN)


def _rows(runs: Iterable[Reading], cells: dict[str, dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for run in runs:
        identity = cells.get(run.cell)
        if identity is None:  # nobody can read what it is
            yield {"run": run.key, "state": str(run.state), "reason": run.reason or None}
            continue
        methods = identity["methods"]
        values = zip(_VALUES, run.numbers, strict=False)
        yield {
            "run": run.key,
            "cell": run.cell,
            "dataset": identity["dataset"]["name"],
            "teacher": (identity["teacher"] or {}).get("model"),
            "student": identity["model"],
            "methods": "+".join(method["name"] for method in methods),
            "options": _json({method["name"]: method["options"] for method in methods}),
            "seed": run.seed,
            "state": str(run.state),
            **(dict(values) if run.state is RunState.DONE else {}),
            **{name: _plain(identity["recipe"].get(name)) for name in _RECIPE},
            "val_top1": run.val_top1,
            "teacher_run": run.teacher,
            "commit": run.commit,
            "reason": run.reason or None,
        }


def _frame(rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> DataFrame:
    import pandas as pd

    rows = list(rows)
    names = list(columns)
    names += sorted({name for row in rows for name in row} - set(names))
    frame = pd.DataFrame(rows, columns=names)
    for name in names:
        given = {type(row[name]) for row in rows if row.get(name) is not None}
        if {str, float} <= given:  # numbers beside text, which no file format can type
            frame[name] = frame[name].map(str)
        elif given == {int} and frame[name].isna().any():  # seeds stay whole numbers
            frame[name] = frame[name].astype("Int64")
    return frame


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    kept = {k: _plain(v) for k, v in record.items() if k not in ("schema", "losses")}
    return kept | {f"loss.{name}": value for name, value in (record.get("losses") or {}).items()}


def _plain(value: Any) -> Any:
    return _json(value) if isinstance(value, dict | list | tuple) else value


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str) if value else ""
