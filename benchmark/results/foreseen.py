"""What plan says of a table's verdicts: foreseen once, remembered, put into words.

Foreseeing needs numpy and scipy (results/forecast.py), which plan otherwise does without. It is
a function of the table, the seeds, the known teachers and the code, so it is kept under a digest
of these in the user's cache folder. Imports neither.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, read_json, write_json
from benchmark.base.machine import own_cache_dir
from benchmark.base.origin import code_digest
from benchmark.base.words import count
from benchmark.table.spec import Table
from benchmark.table.teachers import registry

_REMEMBERED = 100


@dataclass(frozen=True)
class ClaimForecast:
    """A claim if the paper's gains are true: how likely the planned seeds show that it holds; the
    fewest seeds that do with probability 0.8 (None: no practical number). ``unknown`` comparisons
    are of values that nobody can read; ``known`` are the others."""

    text: str
    holds: float
    seeds_needed: int | None
    known: int
    unknown: int


@dataclass(frozen=True)
class TableForecast:
    """A table at so many seeds if the paper is right.

    ``reproduced``: how many of ``cells`` are expected to come out so; ``of_one_run``: if every
    unstated number of runs is one. ``out_of_reach``: cells, "row, column, metric", that hardly
    can at these seeds, each with the seeds that would do (None: no practical number, which is
    one above ``most``).
    """

    seeds: int
    cells: int
    reproduced: float
    of_one_run: float
    out_of_reach: tuple[tuple[str, int | None], ...]
    claims: tuple[ClaimForecast, ...]
    most: int


def foresee(table: Table, seeds: int) -> TableForecast:
    """Return what a table will say at so many seeds a cell if the paper is right."""
    asked = (code_digest(), table.model_dump_json(), registry().model_dump_json(), str(seeds))
    key = hashlib.sha256("\0".join(asked).encode()).hexdigest()[:32]
    path = own_cache_dir() / "forecasts.json"
    kept: dict[str, Any] = {}
    with contextlib.suppress(OSError, UserError, KeyError, TypeError, ValueError):
        kept = dict(read_json(path, 1)["forecasts"])
    with contextlib.suppress(ValidationError, KeyError):
        return TypeAdapter(TableForecast).validate_python(kept[key])
    from benchmark.results.forecast import forecast

    found = forecast(table, seeds)
    with contextlib.suppress(OSError, UserError):  # without it the next plan takes longer
        make_directory(path.parent)
        newest = [*kept.items(), (key, asdict(found))][-_REMEMBERED:]
        write_json(path, {"schema": 1, "forecasts": dict(newest)})
    return found


def forecast_lines(found: TableForecast) -> list[str]:
    """Return a forecast for people."""
    if not found.cells:
        return ["  published values: none that runs could be judged by"]
    lines = [
        f"  if the paper is right: {found.reproduced:.0f} of {found.cells} published cells come out"
        f" reproduced with {count(found.seeds, 'seed')}"
        + (
            f" ({found.of_one_run:.0f} if unstated numbers of runs are one)"
            if found.reproduced - found.of_one_run >= 0.5
            else ""
        )
    ]
    if found.out_of_reach:
        needs = sorted(n for _, n in found.out_of_reach if n is not None)
        never = len(found.out_of_reach) - len(needs)
        parts = [f"{needs[0]} to {needs[-1]} seeds would do for {len(needs)}"] if needs else []
        parts += [f"no practical number for {never}"] if never else []
        lines.append(
            f"  {count(len(found.out_of_reach), 'cell')} can hardly be reproduced at these seeds:"
            f" {', '.join(parts)}"
        )
    for claim in found.claims:
        if not claim.known:
            said = "no number that it speaks of is known here"
        else:
            said = f"shown with probability {claim.holds:.2f}; "
            said += (
                f"{claim.seeds_needed} seeds a cell show it with 0.8"
                if claim.seeds_needed
                else f"not even {found.most} seeds a cell would show it"
            )
            if claim.unknown:
                said += f" ({count(claim.unknown, 'comparison')} of unknown values left out)"
        lines.append(f"  claim: {claim.text} {said}")
    return lines


def forecast_to_json(found: TableForecast) -> dict[str, Any]:
    """Return a forecast as JSON values."""
    return {
        "seeds": found.seeds,
        "cells": found.cells,
        "expected_reproduced": round(found.reproduced, 2),
        "expected_if_unstated_is_one_run": round(found.of_one_run, 2),
        "out_of_reach": [
            {"cell": cell, "seeds_that_would_do": n} for cell, n in found.out_of_reach
        ],
        "claims": [
            {
                "text": claim.text,
                "chance_shown": round(claim.holds, 3) if claim.known else None,
                "seeds_needed": claim.seeds_needed,
                "unknown_comparisons": claim.unknown,
            }
            for claim in found.claims
        ],
    }
