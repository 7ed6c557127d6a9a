"""One side of a comparison: the cells of a runs directory, told by what they are.

Cells match whatever the versions of the code and the kind of device, since those are what one
wants to compare.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.results.priors import cell_prior
from benchmark.results.statistics import Prior
from benchmark.run.identity import digest
from benchmark.run.index import RunIndex
from benchmark.run.reading import Reading
from benchmark.run.state import ENDED, RunState


@dataclass(frozen=True)
class CellRuns:
    """The ended runs of one cell: values in percent and divergence, by seed.

    ``identity``: digest with versions and device; ``made_by``: those, to tell variants apart.
    ``teachers``: the cells of the teachers that are still there. ``exact``: one public
    checkpoint evaluated; ``prior``: of its seed noise. ``method`` and ``place`` (dataset, teacher,
    student): its row and column. Of a table: ``name``, its row and column as printed, and how it
    ``differs`` from the table's own runs.
    """

    key: str
    identity: str
    made_by: str
    values: Mapping[int, float]
    diverged: frozenset[int]
    teachers: frozenset[str]
    exact: bool
    prior: Prior
    method: str = ""
    place: str = ""
    name: str = ""
    differs: str = ""

    @property
    def slug(self) -> str:
        """The readable part of the cell's key."""
        return self.key.rpartition("-")[0]


@dataclass(frozen=True)
class RunSet:
    """A runs directory: ``cells`` by what they are, each in one or more variants."""

    path: Path
    runs: int
    commits: tuple[str, ...]
    cells: Mapping[str, Sequence[CellRuns]]
    problems: tuple[str, ...]


def read_run_set(path: Path, metric: str, statistic: str) -> RunSet:
    """Return the ended runs of a directory. Raises UserError if it is none."""
    if not path.is_dir():
        raise UserError(f"{path} is no directory of runs")
    index = RunIndex(path)
    index.refresh()
    runs: dict[str, list[Reading]] = defaultdict(list)
    for run in index.all_runs():
        if run.state in ENDED:
            runs[run.cell].append(run)
    identities = index.all_cells()
    named = {run.teacher for several in runs.values() for run in several if run.teacher}
    alike = {key: digest(comparable(identity)) for key, identity in identities.items()}
    teachers = {key: alike[cell] for key, cell in index.cells_of(named).items() if cell in alike}
    cells: dict[str, list[CellRuns]] = defaultdict(list)
    for key in sorted(runs):
        found = _cell(key, identities[key], runs[key], teachers, (metric, statistic))
        cells[alike[key]].append(found)
    commits = {run.commit for several in runs.values() for run in several}
    return RunSet(
        path,
        sum(map(len, runs.values())),
        tuple(sorted(commit for commit in commits if commit)),
        cells,
        tuple(f"{run.key}: {run.reason}" for run in index.damaged()),
    )


def comparable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be equal for two cells to be compared."""
    found = {name: value for name, value in identity.items() if name != "versions"}
    found["recipe"] = {k: v for k, v in identity["recipe"].items() if k != "device"}
    found["methods"] = [
        {k: v for k, v in method.items() if k != "version"} for method in identity["methods"]
    ]
    return found


def signature_of(identity: Mapping[str, Any]) -> list[str]:
    """Return the dataset, the teacher (if there is one) and the network of a cell."""
    teacher = identity["teacher"]
    names = [identity["dataset"]["name"], teacher["model"] if teacher else "", identity["model"]]
    return [name for name in names if name]


def _cell(
    key: str,
    identity: Mapping[str, Any],
    runs: Sequence[Reading],
    teachers: Mapping[str, str],
    name: tuple[str, str],
) -> CellRuns:
    # Of two runs with one seed (their teachers differ) the first by key stands.
    by_seed = {run.seed: run for run in reversed(runs)}
    made_by = {
        "device": identity["recipe"].get("device"),
        **identity.get("versions", {}),
        **{method["name"]: method.get("version") for method in identity["methods"]},
    }
    return CellRuns(
        key=key,
        identity=digest(dict(identity)),
        made_by=json.dumps(made_by, sort_keys=True),
        values={s: r.value(*name) for s, r in sorted(by_seed.items()) if r.state is RunState.DONE},
        diverged=frozenset(s for s, run in by_seed.items() if run.state is RunState.DIVERGED),
        teachers=frozenset(
            teachers[r.teacher] for r in runs if r.teacher and r.teacher in teachers
        ),
        exact=identity["weights"] is not None,
        prior=cell_prior(identity["model"], identity["dataset"]["name"], *name),
        method=" + ".join(method["name"] for method in identity["methods"]) or "no teacher",
        place=" ".join(signature_of(identity)),
    )
