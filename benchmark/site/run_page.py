"""The page of a run: how it stands, its curves, its configuration, where it comes from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from markupsafe import Markup

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.results.origins import Origins
from benchmark.results.render.layout import metric_label, statistic_label
from benchmark.run.directory import RunDir
from benchmark.run.identity import SCHEMA
from benchmark.run.reading import METRICS, STATISTICS, Reading
from benchmark.run.state import ENDED, RunState
from benchmark.site.charts import Level, Line, line_chart
from benchmark.site.gather import Gathered, ShownPlace
from benchmark.site.rendering import render

_HUGE = 1e30  # a loss that diverges on the way to infinity
_NUMBERS = (float, int)
_DROP = 0.6  # a rate that falls below this part of the one before it
_SETTING = re.compile(r"(?P<name>.*?) = (?P<value>.*?) \((?P<origin>.*)\)(?P<instead>[^)]*)")


class Setting(NamedTuple):
    """An option or recipe field with its value and where that comes from."""

    name: str
    value: str
    origin: str


class Settings:
    """The configuration of cells: what a run of a table has, and why, worked out once a cell."""

    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered
        self._valid: set[str] = set()
        self._known: dict[tuple[ShownPlace | None, str], Markup] = {}

    def cell(self, run: Reading, rundir: RunDir) -> dict[str, Any]:
        """Return what a run is; one of a cell that was validated differs by its seed alone.

        Raises UserError where it cannot be read.
        """
        if run.cell in self._valid:
            return read_json(rundir.cell, SCHEMA)
        found = rundir.read_run().to_json()
        self._valid.add(run.cell)
        return found

    def of(self, run: Reading, cell: Mapping[str, Any]) -> Markup:
        """Return a run's configuration as a section; outside of the tables its values alone."""
        place = next(iter(self._gathered.places.get(run.key) or ()), None)
        key = place, run.cell
        if key not in self._known:
            if place is None:
                found = [Setting(name, value, "") for name, value in _flat(cell)]
            else:
                found = self._from_table(place, run)
            self._known[key] = Markup(render("settings", settings=found))
        return self._known[key]

    def _from_table(self, place: ShownPlace, run: Reading) -> list[Setting]:
        table = self._gathered.tables[place.table]
        report = next(r for r in self._gathered.reports if r.grid.name == place.table)
        group = next(
            g
            for g in report.collected.groups[place.row, place.column]
            if any(one.key == run.key for one in g.runs)
        )
        slot = next(
            s
            for s in report.collected.slots
            if (s.row.name, s.column.name) == (place.row, place.column)
        )
        assigned = slot.variants[group.variant].assignment if slot.variants else {}
        row, column = table.row(place.row), table.column(place.column)
        return [_setting(line) for line in Origins(table, row, column, group, assigned).lines()]


def values(
    run: Reading, gathered: Gathered, settings: Settings, pages: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the template shows. A file that cannot be read is said, and left out."""
    rundir = RunDir(gathered.runs_dir, run.key)
    problems: list[str] = []
    cell: dict[str, Any] = {}
    result: dict[str, Any] = {}
    try:
        cell = settings.cell(run, rundir)
    except (UserError, OSError) as error:
        problems.append(str(error))
    if run.state in ENDED:
        try:
            result = rundir.read_result()
        except (UserError, OSError) as error:
            problems.append(str(error))
    origin = result.get("provenance") or _last_start(rundir)
    origin = origin if isinstance(origin, dict) else {}
    try:
        records = rundir.read_records()
    except (OSError, ValueError) as error:
        records = []
        problems.append(str(error))
    work = gathered.seen.works.get(run.key)
    standing = gathered.standing(run)
    return {
        "run": run,
        "state": str(standing.name),
        "reason": standing.reason or run.reason,
        "cell": cell,
        "methods": " + ".join(m["name"] for m in cell.get("methods", ())) or "none",
        "teacher_page": pages.get(run.teacher or ""),
        "places": gathered.places.get(run.key, ()),
        "metrics": [
            (metric_label(m), [run.value(m, s) for s in STATISTICS])
            for m in METRICS
            if run.state is RunState.DONE
        ],
        "statistics": [statistic_label(s) for s in STATISTICS],
        "charts": charts(records, _published(gathered, run)),
        "epochs": len(records),
        "settings": settings.of(run, cell) if cell else "",
        "origin": _origin(origin, result),
        "directory": f"{gathered.place or gathered.runs_dir.absolute()}/{run.key}",
        "log": str(work.log) if work is not None else "",
        "problems": problems,
    }


def charts(records: Sequence[Mapping[str, Any]], published: float | None) -> list[Markup]:
    """Return a run's charts: accuracy, every loss term, the learning rate."""
    epochs = [r for r in records if type(r.get("epoch")) is int and 1 <= r["epoch"] < _HUGE]
    if not epochs:
        return []
    numbers = [r["epoch"] for r in epochs]
    terms = [_losses(r) for r in epochs]
    names = dict.fromkeys(itertools.chain.from_iterable(terms))
    test, train, val, rates = (
        _series(numbers, epochs, name) for name in ("test_top1", "train_top1", "val_top1", "lr")
    )
    drops = [b[0] for a, b in itertools.pairwise(rates) if a[1] > 0 and b[1] < _DROP * a[1]]
    drops = drops if len(drops) <= 8 else []
    late = [y for line in (test, train, val) for x, y in line if x >= numbers[-1] / 4]
    accuracy = line_chart(
        "Top-1 accuracy (%)",
        [Line("test", test), Line("training", train), Line("held out", val)],
        unit=" %",
        levels=[Level("published", published)] if published is not None else (),
        drops=drops,
        zoom=min(late) if late else None,
    )
    losses = line_chart(
        "Loss terms",
        [
            Line(name, _series(numbers, terms, name))
            for name in sorted(names, key=lambda n: n != "ce")
        ],
        drops=drops,
        logarithmic=True,
    )
    return [chart for chart in (accuracy, losses, _rate_chart(tuple(rates))) if chart]


def _series(
    epochs: Sequence[int], records: Sequence[Mapping[str, Any]], name: str
) -> list[tuple[float, float]]:
    """Return those points that are numbers, and not about to be infinite."""
    values: list[Any] = [record.get(name) for record in records]
    return [
        (x, y)
        for x, y in zip(epochs, values, strict=True)
        if type(y) in _NUMBERS and -_HUGE < y < _HUGE
    ]


def _losses(record: Mapping[str, Any]) -> Mapping[str, Any]:
    found = record.get("losses")
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=256)
def _rate_chart(rates: tuple[tuple[float, float], ...]) -> Markup:
    """Return the chart of a schedule, which many runs share."""
    return line_chart("Learning rate", [Line("learning rate", rates)], logarithmic=True)


def _published(gathered: Gathered, run: Reading) -> float | None:
    for place in gathered.places.get(run.key, ())[:1]:
        grid = next(r.grid for r in gathered.reports if r.grid.name == place.table)
        found = grid.cell(place.row, place.column, "top1")
        if found is not None and found.published_value is not None:
            value = found.published_value
            return value if grid.higher_is_better else 100.0 - value
    return None


def _last_start(rundir: RunDir) -> dict[str, Any]:
    """Return where an unfinished run was last started; nothing if that is not known."""
    try:
        starts = read_json(rundir.provenance, SCHEMA)["starts"]
        return dict(starts[-1]) if starts else {}
    except (UserError, OSError, KeyError, TypeError, IndexError, ValueError):
        return {}


def _origin(origin: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where a run comes from, in lines of a name and a value; unknown ones are left out."""
    versions = origin.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    threads = f"{origin.get('cpu')}, {origin.get('threads')} threads" if origin.get("cpu") else None
    lines: list[tuple[str, Any]] = [
        ("commit", origin.get("commit")),
        ("changes beside it", origin.get("dirty")),
        ("code", origin.get("code")),
        ("host", origin.get("host")),
        ("GPU", origin.get("gpu")),
        ("CPU", threads),
        ("Slurm job", origin.get("slurm_job")),
        ("Python", origin.get("python")),
        *versions.items(),
        ("data", result.get("dataset_digest")),
        ("teacher's file", result.get("teacher_digest")),
        ("restarts", result.get("restarts")),
        ("seconds of its packs", result.get("seconds")),
        ("its own seconds", result.get("own_seconds")),
        ("images a second", result.get("images_per_second")),
        ("peak memory, MB", result.get("peak_memory_mb")),
    ]
    return [(name, str(value)) for name, value in lines if value is not None]


def _setting(line: str) -> Setting:
    found = _SETTING.fullmatch(line)
    if found is None:
        return Setting(line, "", "")
    origin = found["origin"] + found["instead"]
    return Setting(found["name"].removeprefix("option "), found["value"], origin)


def _flat(cell: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(f"recipe.{name}", str(value)) for name, value in cell.get("recipe", {}).items()]
    for method in cell.get("methods", ()):
        found += [(f"{method['name']}.{k}", str(v)) for k, v in method["options"].items()]
    return found
