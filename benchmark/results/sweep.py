"""A sweep's combinations side by side, and how much choosing one on the test set flatters.

Every combination of a slot is a line: the table's own, those of a grid, and those that --set made.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.results.assign import Group
from benchmark.results.collect import Collected
from benchmark.results.described import describe
from benchmark.results.grid import as_shown
from benchmark.results.judged import fill
from benchmark.results.statistics import mean_std, selection_bias
from benchmark.table.load import load_table
from benchmark.table.selection import Selection


@dataclass(frozen=True)
class Combination:
    """One combination of a slot: what it sets, and what its runs reached.

    ``settings``: the same by name, of everything in which combinations of the slot differ.
    ``held_out``: the mean on held-out training images, None without any. ``best_held_out`` and
    ``best_test``: whether it is chosen by these; ``flatters``: by how many points at most the
    choice on the test set does, of the one that it chooses.
    """

    row: str
    column: str
    metric: str
    combination: str
    n: int
    mean: float
    std: float | None
    held_out: float | None
    best_held_out: bool = False
    best_test: bool = False
    flatters: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def flat(self) -> dict[str, Any]:
        """Return it as a line of a table, each setting ``set.NAME``."""
        found = {name: value for name, value in vars(self).items() if name != "settings"}
        return found | {f"set.{name}": value for name, value in self.settings.items()}


def sweep(
    name: str, runs_dir: Path, chosen: Selection | None = None, protocol: str | None = None
) -> list[Combination]:
    """Return every combination of a table that has results. Raises UserError if none has."""
    table = load_table(name)
    collected = fill(table, runs_dir, chosen, protocol)
    found = combinations(collected, protocol or table.protocol.report)
    if not found:
        raise UserError(f"no run of {table.name} in {runs_dir.resolve()} has a result")
    return found


def combinations(collected: Collected, protocol: str) -> list[Combination]:
    """Return every combination with a result in what is shown of a filled table."""
    grid = collected.grid
    return [
        combination
        for place in sorted(collected.places & set(collected.groups))
        for metric in grid.metrics
        for combination in _slot(collected, place, metric, protocol, grid.show_as)
    ]


def _slot(
    collected: Collected, place: tuple[str, str], metric: str, protocol: str, show_as: Any
) -> list[Combination]:
    told: list[tuple[Group, Combination]] = []
    for group in collected.groups[place]:
        values = [as_shown(run.value(metric, protocol), show_as) for run in group.finished]
        if not values:
            continue
        held = [run.val_top1 for run in group.finished if run.val_top1 is not None]
        mean, std = mean_std(values)
        known = statistics.fmean(held) if held and metric == "top1" else None
        words = _words(collected, place, group)
        told.append((group, Combination(*place, metric, words, len(values), mean, std, known)))
    settings = _settings(collected, place, [group for group, _ in told])
    found = [replace(one, settings=s) for (_, one), s in zip(told, settings, strict=True)]
    return _chosen(found, show_as == "accuracy")


def _settings(
    collected: Collected, place: tuple[str, str], groups: Sequence[Group]
) -> list[dict[str, Any]]:
    """Return by group the values of all that groups differ in, the table's own where unchanged.

    ``(theirs, own)`` are a group's differences; its teacher's are not what is swept.
    """
    slot = next(s for s in collected.slots if (s.row.name, s.column.name) == place)
    own: dict[str, Any] = {}
    set_: list[dict[str, Any]] = []
    for group in groups:
        changed = {
            name.replace(".options.", "."): both
            for name, both in group.differences.items()
            if not name.startswith(("teacher", "versions", "dataset"))
        }
        own |= {name: ours for name, (_, ours) in changed.items()}
        mine = dict(slot.variants[group.variant].assignment)
        set_.append(mine | {name: theirs for name, (theirs, _) in changed.items()})
    names = dict.fromkeys(name for one in set_ for name in one)
    full = [{name: one.get(name, own.get(name)) for name in names} for one in set_]
    varied = [name for name in names if len({repr(one[name]) for one in full}) > 1]
    return [{name: one[name] for name in varied} for one in full]


def _words(collected: Collected, place: tuple[str, str], group: Group) -> str:
    slot = next(s for s in collected.slots if (s.row.name, s.column.name) == place)
    own = [f"{k} = {v}" for k, v in slot.variants[group.variant].assignment.items()]
    return ", ".join([*own, *describe(group)]) or "the table's own"


def _chosen(found: Sequence[Combination], higher: bool) -> list[Combination]:
    """Mark the best by held-out images, of those that have any, and by the test set.

    There is no choice of one alone.
    """
    if len(found) < 2:
        return list(found)
    best = max(range(len(found)), key=lambda i: found[i].mean if higher else -found[i].mean)
    held = [i for i, one in enumerate(found) if one.held_out is not None]
    by_held = max(held, key=lambda i: found[i].held_out or 0.0) if len(held) > 1 else None
    spreads = [one.std for one in found if one.std is not None]
    noise = statistics.fmean(spreads) / found[best].n ** 0.5 if spreads else None
    flatters = None if noise is None else selection_bias(len(found), noise)
    return [
        replace(
            one,
            best_held_out=i == by_held,
            best_test=i == best,
            flatters=flatters if i == best else None,
        )
        for i, one in enumerate(found)
    ]


def sentences(found: Sequence[Combination]) -> list[str]:
    """Return for each slot what either choice gives, and by how much the test set's flatters."""
    slots = dict.fromkeys((one.row, one.column, one.metric) for one in found)
    said = []
    for slot in slots:
        mine = [one for one in found if (one.row, one.column, one.metric) == slot]
        held = next((one for one in mine if one.best_held_out), None)
        test = next((one for one in mine if one.best_test), None)
        if test is None:
            continue
        having = sum(one.held_out is not None for one in mine)
        of = f", of the {having} of {len(mine)} with any" if having < len(mine) else ""
        if held is not None:
            by_held = f"chosen on held-out images{of}: {held.combination} ({held.mean:.2f})"
        elif having:
            by_held = "one combination alone has held-out images, which is no choice"
        else:
            by_held = "no held-out images to choose on (recipe.holdout)"
        flatters = (
            f"which flatters by up to {test.flatters:.2f} points"
            if test.flatters is not None
            else "by how much that flatters takes two seeds to tell"
        )
        where = ", ".join(slot)
        said.append(
            f"{where}: {by_held}; on the test set: {test.combination} ({test.mean:.2f}), {flatters}"
        )
    return said
