"""Compare two sets of runs cell by cell: two commits, two clusters, two versions.

A cell has changed when its difference is beyond noise (Holm over all cells), when a seed
diverged on one side only, or, for a public checkpoint that is only evaluated, when its accuracy
moved by more than arithmetic on another machine explains. A cell of A that B does not have any
more is a change too; one that B adds is not. A small change of many cells hides in each: the same
two-way analysis as for tables (`twoway.py`) finds a shift of all cells, of a method or of a pair.

That nothing is seen to change is not that nothing has: each cell says how much worse it may be
("no worse than 0.3"), and if that is more than the margin, nobody can tell.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.base.errors import UserError, unknown
from benchmark.base.words import count
from benchmark.results.found import Shift
from benchmark.results.priors import checked_prior
from benchmark.results.run_set import CellRuns, RunSet, read_run_set
from benchmark.results.statistics import (
    LEVEL,
    Prior,
    difference,
    holm,
    mean_std,
    noise,
    paired_difference,
    side,
)
from benchmark.results.table_set import read_table_set
from benchmark.results.twoway import two_way
from benchmark.results.whole import named_shifts
from benchmark.run.reading import METRICS, STATISTICS

MARGIN = 0.5
# Five images of 10,000: what another order of summation may tip over.
EXACT_TOLERANCE = 0.05


@dataclass(frozen=True)
class ComparedCell:
    """One cell of both sets: means and numbers of seeds, B - A with its 95 % interval, points.

    ``p`` is Holm's over all cells; None if nothing was tested: no values on a side, the
    same values, or no noise. ``diverged``: seeds that ended well on one side and diverged on
    the other. ``identical``: the same seeds gave the same values to the last bit.
    """

    name: str
    mean_a: float | None
    n_a: int
    mean_b: float | None
    n_b: int
    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    diverged: tuple[int, ...]
    identical: bool
    exact: bool
    note: str

    @property
    def changed(self) -> bool:
        """Whether the cell moved beyond noise."""
        if self.identical:
            return False
        if self.exact:
            return self.delta is not None and abs(self.delta) > EXACT_TOLERANCE
        return bool(self.diverged) or (self.p is not None and self.p <= 1 - LEVEL)

    @property
    def no_worse_than(self) -> float | None:
        """How much worse B may be, at most, points; None if nothing is known of it."""
        if self.identical:
            return 0.0
        if self.exact:
            return None if self.delta is None else max(-self.delta, 0.0)
        return None if self.low is None else max(-self.low, 0.0)

    def unclear(self, margin: float) -> bool:
        """Whether it may be worse by more than a margin without having been seen to change."""
        known = self.no_worse_than
        return not self.changed and (known is None or known >= margin)


@dataclass(frozen=True)
class RunSetComparison:
    """Both sets side by side; cells that only one of them has are named.

    ``margin``: by how much B may be worse, points. ``mean`` is the mean shift B - A, ``off`` the
    parts (all cells, a method, a pair) that are shifted as a whole.
    """

    a: RunSet
    b: RunSet
    cells: tuple[ComparedCell, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    margin: float = MARGIN
    mean: Shift | None = None
    off: tuple[Shift, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any cell or part moved beyond noise, or a cell is gone from B."""
        return bool(self.only_a or self.off) or any(cell.changed for cell in self.cells)

    @property
    def unclear(self) -> int:
        """How many cells may be worse by more than the margin."""
        return sum(cell.unclear(self.margin) for cell in self.cells)

    def summary(self) -> str:
        """Return the one line that matters."""
        moved = sum(cell.changed for cell in self.cells)
        same = sum(cell.identical for cell in self.cells)
        cells = count(len(self.cells), "cell")
        line = f"{cells} compared: {moved} changed beyond noise, {same} identical"
        line += f"; {len(self.only_a)} of A gone from B" if self.only_a else ""
        line += f"; {len(self.only_b)} only in B" if self.only_b else ""
        if self.unclear:
            line += f"; cannot tell of {self.unclear} whether B is worse by {self.margin:g} or more"
        if self.mean is not None:
            ends = f"[{self.mean.low:+.2f}, {self.mean.high:+.2f}]"
            line += f"; mean shift {self.mean.shift:+.2f} {ends}"
        broken = len(self.a.problems) + len(self.b.problems)
        return line + (f"; {count(broken, 'run')} not counted" if broken else "")


def compare(
    a: Path,
    b: Path,
    metric: str = "top1",
    statistic: str = "last",
    margin: float = MARGIN,
    table: str | None = None,
) -> RunSetComparison:
    """Compare two runs directories; B may be worse by ``margin`` points.

    Cells match where all that moves numbers is the same but versions and devices; with ``table``,
    where they stand in one row and column of it, whatever their options and recipes.
    Raises UserError for an unknown metric or statistic, and if no cell is in both.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS, "--metric")
    if statistic not in STATISTICS:
        raise unknown("protocol", statistic, STATISTICS, "--protocol")
    if table is None:
        left, right = (read_run_set(path, metric, statistic) for path in (a, b))
    else:
        left, right = (read_table_set(table, path, metric, statistic) for path in (a, b))
    both = sorted(set(left.cells) & set(right.cells))
    if not both:
        raise UserError(
            f"no ended cell is in both {a} ({count(len(left.cells), 'cell')}) and {b}"
            f" ({count(len(right.cells), 'cell')})"
        )
    pairs = [_pair(left.cells[key], right.cells[key]) for key in both]
    slugs = Counter(one.slug for one, _, _ in pairs)
    priors = _priors([(one, two) for one, two, _ in pairs])
    found = [
        _compare(
            one, two, note, priors, one.name or (one.slug if slugs[one.slug] == 1 else one.key)
        )
        for one, two, note in pairs
    ]
    adjusted = holm([np.nan if cell.p is None else cell.p for cell in found])
    cells = tuple(
        cell if cell.p is None else replace(cell, p=float(p))
        for cell, p in zip(found, adjusted, strict=True)
    )
    mean, off = _shifts([one for one, _, _ in pairs], cells, priors)
    return RunSetComparison(
        left, right, cells, _only(left, right), _only(right, left), margin, mean, off
    )


def _shifts(
    sides: Sequence[CellRuns], cells: Sequence[ComparedCell], priors: Mapping[Prior, Prior]
) -> tuple[Shift | None, tuple[Shift, ...]]:
    """Return the mean shift of all noisy cells, and the parts that are off as a whole."""
    use = [
        i
        for i, cell in enumerate(cells)
        if cell.delta is not None and not cell.exact and not cell.identical
    ]
    methods = list(dict.fromkeys(sides[i].method for i in use))
    places = list(dict.fromkeys(sides[i].place for i in use))
    if len(use) < 3:
        return None, ()
    parts = two_way(
        np.array([cells[i].delta for i in use], dtype=np.float64),
        np.array(
            [priors[sides[i].prior].sigma ** 2 * (1 / cells[i].n_a + 1 / cells[i].n_b) for i in use]
        ),
        np.array([methods.index(sides[i].method) for i in use]),
        np.array([places.index(sides[i].place) for i in use]),
    )
    assert parts is not None
    return named_shifts(parts, methods, places)


def _only(these: RunSet, others: RunSet) -> tuple[str, ...]:
    keys = set(these.cells) - set(others.cells)
    return tuple(sorted(cell.name or cell.key for key in keys for cell in these.cells[key]))


def _pair(a: Sequence[CellRuns], b: Sequence[CellRuns]) -> tuple[CellRuns, CellRuns, str]:
    """Return which variants are compared: the same on both sides if there are, else the last."""
    notes = []
    same = {cell.identity for cell in a} & {cell.identity for cell in b}
    picked = []
    for name, several in (("A", a), ("B", b)):
        wanted = [cell for cell in several if cell.identity in same] or list(several)
        chosen = max(wanted, key=lambda cell: (len(cell.values), cell.made_by, cell.key))
        picked.append(chosen)
        if len(several) > 1:
            notes.append(f"{name} has {len(several)} versions or devices of it: {chosen.key} taken")
    one, two = picked
    if one.differs != two.differs:
        sides = (one.differs, two.differs)
        named = [f"{name}: {d or 'as the table says'}" for name, d in zip("AB", sides, strict=True)]
        notes += named
    if one.teachers and two.teachers and not one.teachers & two.teachers:
        notes.append("their teachers are of different cells")
    return one, two, "; ".join(notes)


def _priors(pairs: Sequence[tuple[CellRuns, CellRuns]]) -> dict[Prior, Prior]:
    """Return what holds in place of each prior: itself unless the runs themselves are noisier."""
    stds: dict[Prior, list[tuple[float, int]]] = defaultdict(list)
    cells = [cell for pair in pairs for cell in pair]
    for cell in cells:
        if len(cell.values) > 1 and not cell.exact:
            _, std = mean_std(list(cell.values.values()))
            assert std is not None
            stds[cell.prior].append((std, len(cell.values)))
    checked = {
        prior: checked_prior(prior, [s for s, _ in seen], [n for _, n in seen])
        for prior, seen in stds.items()
    }
    return {cell.prior: checked.get(cell.prior, cell.prior) for cell in cells}


def _compare(
    a: CellRuns, b: CellRuns, note: str, priors: Mapping[Prior, Prior], name: str
) -> ComparedCell:
    left, right = dict(a.values), dict(b.values)
    mean_a = mean_std(list(left.values()))[0] if left else None
    mean_b = mean_std(list(right.values()))[0] if right else None
    diverged = (set(left) & b.diverged) | (set(right) & a.diverged)
    cell = ComparedCell(
        name=name,
        mean_a=mean_a,
        n_a=len(left),
        mean_b=mean_b,
        n_b=len(right),
        delta=None if mean_a is None or mean_b is None else mean_b - mean_a,
        low=None,
        high=None,
        p=None,
        diverged=tuple(sorted(diverged)),
        identical=left == right and a.diverged == b.diverged,
        exact=a.exact,
        note=note,
    )
    if cell.identical or cell.exact or cell.delta is None:
        return cell
    found = _test(left, right, priors[a.prior])
    return replace(cell, low=float(found.low), high=float(found.high), p=float(found.p))


def _test(left: Mapping[int, float], right: Mapping[int, float], prior: Prior) -> Any:
    """Return B - A: seed by seed if both have the same seeds."""
    if set(left) == set(right):
        mean, std = mean_std([right[seed] - left[seed] for seed in sorted(left)])
        return paired_difference(mean, len(left), _or_nan(std), prior.sigma, prior.df)
    one, two = (
        side(mean, len(values), _or_nan(std))
        for values in (left, right)
        for mean, std in [mean_std(list(values.values()))]
    )
    return difference(
        two, noise(two, prior.sigma, prior.df), one, noise(one, prior.sigma, prior.df)
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


# -- in words -------------------------------------------------------------------------------


def describe_comparison(found: RunSetComparison) -> str:
    """Return a comparison for people: the cells that moved first, then the rest."""
    lines = [f"{name}: {_describe_set(runs)}" for name, runs in (("A", found.a), ("B", found.b))]
    for cell in sorted(found.cells, key=lambda c: (not c.changed, c.name)):
        word = "CHANGED" if cell.changed else "identical" if cell.identical else "within noise"
        word = "cannot tell" if cell.unclear(found.margin) else word
        line = f"{word:12} {_describe_delta(cell)}  {cell.name}"
        if not cell.identical and cell.no_worse_than is not None:
            line += f", no worse than {cell.no_worse_than:.2f}"
        if cell.diverged:
            line += f"; seeds {', '.join(map(str, cell.diverged))} diverged on one side"
        lines.append(line + (f" ({cell.note})" if cell.note else ""))
    for shift in found.off:
        name = shift.name or "all cells"
        lines.append(
            f"SHIFTED      {shift.shift:+7.2f} [{shift.low:+.2f}, {shift.high:+.2f}]"
            f" {shift.kind} {name}"
        )
    lines += [f"GONE from B  {name}" for name in found.only_a]
    lines += [f"only in B    {name}" for name in found.only_b]
    for name, runs in (("A", found.a), ("B", found.b)):
        lines += [f"not counted  {name}: {problem}" for problem in runs.problems]
    return "\n".join([*lines, found.summary()])


def _describe_set(runs: RunSet) -> str:
    commits = ", ".join(commit[:12] for commit in runs.commits) or "unknown commit"
    what = f"{count(runs.runs, 'run')} of {count(len(runs.cells), 'cell')}"
    return f"{runs.path}, {what}, {commits}"


def _describe_delta(cell: ComparedCell) -> str:
    delta = "      -" if cell.delta is None else f"{cell.delta:+7.2f}"
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"[{cell.low:+.2f}, {cell.high:+.2f}]"
    a, b = (
        f"{'none' if mean is None else f'{mean:.2f}'} ({n})"
        for mean, n in ((cell.mean_a, cell.n_a), (cell.mean_b, cell.n_b))
    )
    return f"{delta} {interval:16} {a} -> {b}"


def comparison_to_json(found: RunSetComparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    return {
        "schema": 1,
        "summary": found.summary(),
        "changed": found.changed,
        "margin": found.margin,
        "cannot_tell": found.unclear,
        "mean_shift": None if found.mean is None else vars(found.mean),
        "off": [vars(shift) for shift in found.off],
        **{
            name: {"path": str(runs.path), "runs": runs.runs, "commits": list(runs.commits)}
            for name, runs in (("a", found.a), ("b", found.b))
        },
        "cells": [
            {
                **vars(cell),
                "diverged": list(cell.diverged),
                "changed": cell.changed,
                "no_worse_than": cell.no_worse_than,
                "cannot_tell": cell.unclear(found.margin),
            }
            for cell in found.cells
        ],
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
        "not_counted": [*found.a.problems, *found.b.problems],
    }
