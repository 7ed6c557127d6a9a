"""A sweep's combinations side by side, and how much choosing one on the test set flatters.

Every combination of a slot is a line: the table's own, those of a grid, and those that --set made.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError, unknown
from benchmark.base.files import make_directory, write_text
from benchmark.results.assign import Group
from benchmark.results.collect import Collected
from benchmark.results.described import describe
from benchmark.results.grid import as_shown
from benchmark.results.judged import fill
from benchmark.results.statistics import mean_std, selection_bias
from benchmark.table.load import load_table
from benchmark.table.selection import Selection

FORMATS = ("md", "csv", "json")


@dataclass(frozen=True)
class Combination:
    """One combination of a slot: what it sets, and what its runs reached.

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


def sweep(
    name: str, runs_dir: Path, chosen: Selection | None = None, protocol: str | None = None
) -> list[Combination]:
    """Return every combination of a table that has results. Raises UserError if none has."""
    table = load_table(name)
    collected = fill(table, runs_dir, chosen, protocol)
    reported = protocol or table.protocol.report
    found: list[Combination] = []
    for place in sorted(collected.places & set(collected.groups)):
        for metric in table.metrics:
            found += _slot(collected, place, metric, reported, table.show_as)
    if not found:
        raise UserError(f"no run of {table.name} in {runs_dir.resolve()} has a result")
    return found


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
    return _chosen([one for _, one in told], show_as == "accuracy")


def _words(collected: Collected, place: tuple[str, str], group: Group) -> str:
    slot = next(s for s in collected.slots if (s.row.name, s.column.name) == place)
    own = [f"{k} = {v}" for k, v in slot.variants[group.variant].assignment.items()]
    return ", ".join([*own, *describe(group)]) or "the table's own"


def _chosen(found: Sequence[Combination], higher: bool) -> list[Combination]:
    """Mark the best by held-out images and by the test set, if there are several."""
    if len(found) < 2:
        return list(found)
    best = max(range(len(found)), key=lambda i: found[i].mean if higher else -found[i].mean)
    held = [i for i, one in enumerate(found) if one.held_out is not None]
    by_held = max(held, key=lambda i: found[i].held_out or 0.0) if len(held) == len(found) else None
    spreads = [one.std for one in found if one.std is not None]
    noise = statistics.fmean(spreads) / found[best].n ** 0.5 if spreads else None
    flatters = None if noise is None else selection_bias(len(found), noise)
    return [
        Combination(
            *(one.row, one.column, one.metric, one.combination),
            *(one.n, one.mean, one.std, one.held_out),
            best_held_out=i == by_held,
            best_test=i == best,
            flatters=flatters if i == best else None,
        )
        for i, one in enumerate(found)
    ]


def render(found: Sequence[Combination], kind: str) -> str:
    """Return the lines as Markdown, CSV or JSON."""
    if kind == "json":
        return json.dumps({"schema": 1, "combinations": [vars(one) for one in found]}, indent=1)
    if kind == "csv":
        import pandas as pd

        return str(pd.DataFrame([vars(one) for one in found]).to_csv(index=False)).rstrip("\n")
    head = ["row", "column", "metric", "combination", "accuracy", "held out", "chosen"]
    rows = [head, ["---"] * len(head)]
    for one in found:
        spread = "" if one.std is None else f" ± {one.std:.2f}"
        by = ["held out"] * one.best_held_out + ["test"] * one.best_test
        flatters = "" if one.flatters is None else f" (flatters by up to {one.flatters:.2f})"
        held = "" if one.held_out is None else f"{one.held_out:.2f}"
        rows.append(
            [
                *(one.row, one.column, one.metric, one.combination),
                *(f"{one.mean:.2f}{spread} ({one.n})", held, ", ".join(by) + flatters),
            ]
        )
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in row)} |" for row in rows)


def print_sweep(
    name: str,
    runs_dir: Path,
    chosen: Selection | None,
    protocol: str | None,
    kind: str | None,
    out: Path | None,
) -> str:
    """Return a table's combinations as text, or where they were written to."""
    wanted = kind or "md"
    if wanted not in FORMATS:
        raise unknown("format", wanted, FORMATS, "--format of --sweep")
    text = render(sweep(name, runs_dir, chosen, protocol), wanted)
    if out is None:
        return text
    make_directory(out)
    path = out / f"{load_table(name).name}.sweep.{wanted}"
    write_text(path, f"{text}\n")
    return f"written: {path}"
