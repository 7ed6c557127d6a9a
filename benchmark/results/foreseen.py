"""What a table will say if the paper is right, and its words for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmark.base.words import count


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
    unstated number of runs is one; ``conditional``: how many would if it were known what their
    sources leave open. ``out_of_reach``: cells, "row, column, metric", that are not likely to at
    these seeds even so, each with the seeds that would do (None: no practical number, which is one
    above ``most``); ``left_open``: cells that are likely to stay conditional.
    """

    seeds: int
    cells: int
    reproduced: float
    of_one_run: float
    conditional: float
    out_of_reach: tuple[tuple[str, int | None], ...]
    left_open: tuple[str, ...]
    claims: tuple[ClaimForecast, ...]
    most: int


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
        + (
            f"; {found.conditional:.0f} would if their sources said which epoch, or how many runs"
            if found.conditional >= 0.5
            else ""
        )
    ]
    if found.out_of_reach:
        needs = sorted(n for _, n in found.out_of_reach if n is not None)
        never = len(found.out_of_reach) - len(needs)
        span = f"{needs[0]} to {needs[-1]}" if len(set(needs)) > 1 else str(*needs[:1])
        parts = [f"{span} seeds would do for {len(needs)}"] if needs else []
        parts += [f"no practical number for {never}"] if never else []
        lines.append(
            f"  {count(len(found.out_of_reach), 'cell')} can hardly be reproduced at these seeds"
            f" (chance below 0.5): {', '.join(parts)}"
        )
    if found.left_open:
        lines.append(
            f"  {count(len(found.left_open), 'cell')} will hardly be more than conditional,"
            " whatever the seeds: `statistic` or `n` in the table would do, or more columns"
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
        "expected_conditional": round(found.conditional, 2),
        "left_open": list(found.left_open),
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
