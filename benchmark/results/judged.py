"""A table's name in, a judged Grid out: the door to results.

Renderers, figures and reports take what they show from :func:`judged_grid`; `report.py`, which
also says what could not be counted, from :func:`fill`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from benchmark.base.garbage import no_search_for_cycles
from benchmark.results.collect import Collected, collect
from benchmark.results.grid import Grid
from benchmark.results.judge import judge
from benchmark.run.index import RunIndex
from benchmark.table.load import load_table
from benchmark.table.published import Claim
from benchmark.table.selection import Selection
from benchmark.table.spec import Table


def judged_grid(
    name: str, runs_dir: Path, chosen: Selection | None = None, protocol: str | None = None
) -> Grid:
    """Return a table, by name or path, filled from runs and judged.

    ``chosen`` limits the runs to some seeds, and what is shown to some rows and columns: their
    verdicts, claims and ranks are still those of the whole table. ``protocol`` replaces the
    table's own. Raises UserError for a table that cannot be read and a selection that matches
    nothing; a run that cannot be counted raises nothing.
    """
    return fill(load_table(name), runs_dir, chosen, protocol).grid


def fill(
    table: Table, runs_dir: Path, chosen: Selection | None = None, protocol: str | None = None
) -> Collected:
    """Return the judged grid as :func:`judged_grid` does, with the runs behind it."""
    with no_search_for_cycles():  # a fifth of the time of 100,000 runs
        index = RunIndex(runs_dir)
        index.refresh()
        collected = collect(table, index, chosen, protocol)
    grid = judge(collected.grid, _further(table, index, chosen or Selection(), protocol))
    return replace(collected, grid=_restricted(grid, collected.places))


def _further(
    table: Table, index: RunIndex, chosen: Selection, protocol: str | None
) -> Iterator[Grid]:
    """Yield the filled grids of the further tables that the table's claims speak of."""
    seeds = Selection(only=tuple(i for i in chosen.only if i.key == "seed"), seeds=chosen.seeds)
    for name in table.claimed_tables:
        yield collect(load_table(name), index, seeds, protocol).grid


def _restricted(grid: Grid, places: Collection[tuple[str, str]]) -> Grid:
    """Return a judged grid with some (row, column) alone; what is said of them stays as it is.

    Claims and ranks still speak of all columns; those of rows that are not shown are left out.
    """
    cells = {key: cell for key, cell in grid.cells.items() if key[:2] in places}
    rows = tuple(r for r in grid.rows if any(key[0] == r.name for key in cells))
    columns = tuple(c for c in grid.columns if any(key[1] == c.name for key in cells))
    names = {row.name for row in rows}
    ranks = (
        replace(
            ranking,
            average=tuple(item for item in ranking.average if item[0] in names),
            left_out=tuple(row for row in ranking.left_out if row in names),
        )
        for ranking in grid.ranks
    )
    return replace(
        grid,
        rows=rows,
        columns=columns,
        cells=cells,
        ranks=tuple(ranking for ranking in ranks if ranking.average),
        claims=tuple(claim for claim in grid.claims if _rows(claim) <= names),
        claim_results=tuple(r for r in grid.claim_results if _rows(r.claim) <= names),
    )


def _rows(claim: Claim) -> set[str]:
    return {name for expect in claim.expect for name in expect.rows}
