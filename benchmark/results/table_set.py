"""One side of a comparison by a table's rows and columns, whatever the options of its runs.

In each place stand the runs that the table would show: its own, else those with overrides, which
are then named.
"""

from __future__ import annotations

from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.results.collect import Collected
from benchmark.results.described import describe
from benchmark.results.judged import fill
from benchmark.results.priors import cell_prior
from benchmark.results.run_set import CellRuns, RunSet
from benchmark.run.state import RunState
from benchmark.table.load import load_table


def read_table_set(name: str, path: Path, metric: str, statistic: str) -> RunSet:
    """Return the ended runs that a table shows of a directory; UserError where it is none."""
    if not path.is_dir():
        raise UserError(f"{path} is no directory of runs")
    table = load_table(name)
    if metric not in table.metrics:
        raise UserError(f"table {table.name} has no {metric} (it has {', '.join(table.metrics)})")
    found = fill(table, path, None, statistic)
    cells = {}
    for place in sorted(found.places):
        one = _cell(found, place, metric, statistic)
        if one is not None:
            cells["/".join(place)] = [one]
    shown = [run for (one,) in cells.values() for run in one.values]
    commits = {
        c for groups in found.groups.values() for g in groups for r in g.runs if (c := r.commit)
    }
    return RunSet(path, len(shown), tuple(sorted(commits)), cells, tuple(found.problems))


def _cell(found: Collected, place: tuple[str, str], metric: str, statistic: str) -> CellRuns | None:
    choice = found.choices.get((*place, metric))
    group = None if choice is None else choice.shown
    if group is None or not group.ended:
        return None
    slot = next(s for s in found.slots if (s.row.name, s.column.name) == place)
    first = slot.variants[group.variant].runs[0]
    return CellRuns(
        key=group.cell,
        identity=group.cell,
        made_by=group.unlikeness,
        values={run.seed: run.value(metric, statistic) for run in group.finished},
        diverged=frozenset(run.seed for run in group.runs if run.state is RunState.DIVERGED),
        teachers=frozenset(),
        exact=group.evaluated,
        prior=cell_prior(first.model, first.dataset.name, metric, statistic),
        method=place[0],
        place=place[1],
        name=", ".join(place),
        differs=", ".join(describe(group)),
    )
