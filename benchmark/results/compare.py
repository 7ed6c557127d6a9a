"""Compare two sets of runs cell by cell: two commits, two clusters, two versions.

Cells are matched by what they are (dataset, networks, methods with options, recipe), whatever
the versions of the code and the kind of device, since those are what one wants to compare.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UserError
from benchmark.results.index import RunIndex
from benchmark.results.priors import checked_prior, family_prior
from benchmark.results.statistics import (
    LEVEL,
    difference,
    holm,
    mean_std,
    noise,
    paired_difference,
    side,
)

Values = dict[int, float]  # by seed


@dataclass(frozen=True)
class ComparedCell:
    """One cell of both sets: means, numbers of seeds, B - A with its 95 % interval.

    ``identical``: the same seeds gave the same values to the last bit. ``changed``: the
    difference is beyond noise (Holm over all cells). ``p`` is Holm's.
    """

    name: str
    mean_a: float
    n_a: int
    mean_b: float
    n_b: int
    delta: float
    low: float
    high: float
    p: float
    identical: bool

    @property
    def changed(self) -> bool:
        """Whether the cell moved beyond noise."""
        return not self.identical and self.p <= 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """Both sets side by side; cells that only one of them has are named."""

    cells: tuple[ComparedCell, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether any cell moved beyond noise."""
        return any(cell.changed for cell in self.cells)

    def summary(self) -> str:
        """Return the one line that matters."""
        moved = sum(cell.changed for cell in self.cells)
        same = sum(cell.identical for cell in self.cells)
        line = f"{len(self.cells)} cells compared: {moved} changed beyond noise, {same} identical"
        if self.only_a or self.only_b:
            line += f"; {len(self.only_a)} only in A, {len(self.only_b)} only in B"
        return line


def compare(a: Path, b: Path, metric: str = "top1", statistic: str = "last") -> Comparison:
    """Compare two runs directories. Raises UserError where they have no cell in common."""
    left, right = _cells(a, metric, statistic), _cells(b, metric, statistic)
    both = sorted(set(left) & set(right))
    if not both:
        raise UserError(
            f"no finished cell is in both {a} ({len(left)} cells) and {b} ({len(right)} cells)"
        )
    pairs = [(left[key], right[key]) for key in both]
    prior = _priors(pairs)
    found = [_compare(one, two, prior) for one, two in pairs]
    adjusted = holm([np.nan if cell.identical else cell.p for cell in found])
    cells = tuple(
        ComparedCell(**{**vars(cell), "p": 1.0 if cell.identical else float(p)})
        for cell, p in zip(found, adjusted, strict=True)
    )
    return Comparison(
        cells,
        tuple(left[key].name for key in sorted(set(left) - set(right))),
        tuple(right[key].name for key in sorted(set(right) - set(left))),
    )


@dataclass(frozen=True)
class _Cell:
    name: str
    model: str
    values: Mapping[int, float]


def _cells(runs_dir: Path, metric: str, statistic: str) -> dict[str, _Cell]:
    if not runs_dir.is_dir():
        raise UserError(f"{runs_dir} is no directory of runs")
    index = RunIndex(runs_dir)
    index.refresh()
    runs = defaultdict(dict)  # type: defaultdict[str, Values]
    for run in index.all_runs():
        if run.state == "done":
            runs[run.cell][run.seed] = run.values[metric, statistic]
    found = {}
    for key, (_, identity) in index.all_cells().items():
        if runs.get(key):
            comparable = json.dumps(_comparable(identity), sort_keys=True)
            found[comparable] = _Cell(key.rpartition("-")[0], identity["model"], runs[key])
    return found


def _comparable(identity: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    del plain["versions"], plain["recipe"]["device"]
    for method in plain["methods"]:
        del method["version"]
    return plain


def _priors(pairs: list[tuple[_Cell, _Cell]]) -> dict[str, tuple[float, float]]:
    """Return (sigma, df) by network, the family's unless the runs themselves are noisier."""
    stds: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for pair in pairs:
        for cell in pair:
            _, std = mean_std(list(cell.values.values()))
            if std is not None:
                stds[family_prior(cell.model).name].append((std, len(cell.values)))
    found = {}
    for one, _ in pairs:
        prior = family_prior(one.model)
        seen = stds[prior.name]
        own = checked_prior(prior, [s for s, _ in seen], [n for _, n in seen]) if seen else prior
        found[one.model] = (own.sigma, own.df)
    return found


def _compare(a: _Cell, b: _Cell, priors: dict[str, tuple[float, float]]) -> ComparedCell:
    sigma, df = priors[a.model]
    left, right = list(a.values.values()), list(b.values.values())
    mean_a, std_a = mean_std(left)
    mean_b, std_b = mean_std(right)
    if set(a.values) == set(b.values):
        steps = [b.values[seed] - a.values[seed] for seed in sorted(a.values)]
        mean, std = mean_std(steps)
        found = paired_difference(mean, len(steps), np.nan if std is None else std, sigma, df)
    else:
        one = side(mean_a, len(left), np.nan if std_a is None else std_a)
        two = side(mean_b, len(right), np.nan if std_b is None else std_b)
        found = difference(two, noise(two, sigma, df), one, noise(one, sigma, df))
    return ComparedCell(
        name=a.name,
        mean_a=mean_a,
        n_a=len(left),
        mean_b=mean_b,
        n_b=len(right),
        delta=mean_b - mean_a,
        low=float(found.low),
        high=float(found.high),
        p=float(found.p),
        identical=dict(a.values) == dict(b.values),
    )


def describe_comparison(found: Comparison) -> str:
    """Return a comparison for people: the cells that moved first, then the rest."""
    lines = []
    for cell in sorted(found.cells, key=lambda c: (not c.changed, c.name)):
        word = "identical" if cell.identical else "CHANGED" if cell.changed else "within noise"
        lines.append(
            f"{word:12} {cell.delta:+7.2f} [{cell.low:+.2f}, {cell.high:+.2f}]"
            f"  {cell.mean_a:.2f} ({cell.n_a}) -> {cell.mean_b:.2f} ({cell.n_b})  {cell.name}"
        )
    lines += [f"only in A    {name}" for name in found.only_a]
    lines += [f"only in B    {name}" for name in found.only_b]
    lines.append(found.summary())
    return "\n".join(lines)


def comparison_to_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    cells = [{**vars(cell), "changed": cell.changed} for cell in found.cells]
    return {
        "schema": 1,
        "summary": found.summary(),
        "changed": found.changed,
        "cells": cells,
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
    }
