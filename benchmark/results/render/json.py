"""JSON from a Grid: all that is known of every cell, for programs. Percent, as printed."""

from __future__ import annotations

import json
from typing import Any

from benchmark.results.found import Shift, WholeTable
from benchmark.results.grid import ClaimResult, Comparison, Grid, GridCell, Ranking
from benchmark.results.render.layout import tidy

SCHEMA = 1


def render(grid: Grid) -> str:
    """Return the grid as JSON; fields may be added within a schema, never renamed."""
    return json.dumps(as_dict(grid), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_dict(grid: Grid) -> dict[str, Any]:
    """Return the grid as plain JSON values."""
    return {
        "schema": SCHEMA,
        "table": grid.name,
        "title": grid.title,
        "source": grid.source,
        "dataset": grid.dataset,
        "show_as": grid.show_as,
        "protocol": grid.protocol,
        "margin": grid.margin,
        "margins": {metric: grid.margin_of(metric) for metric in grid.metrics},
        "max_seeds": grid.max_seeds,
        "whole": [_whole(whole) for whole in grid.wholes],
        "noise": list(grid.noise),
        "rows": [
            {"name": r.name, "kind": r.kind, "group": r.group, "info": dict(r.info)}
            | {"teacher": r.teacher or None, "student": r.student or None}
            for r in grid.rows
        ],
        "columns": [
            {"name": c.name, "teacher": c.teacher, "student": c.student, "group": c.group}
            for c in grid.columns
        ],
        "cells": [
            {"row": row, "column": column, "metric": metric, **_cell(cell)}
            for (row, column, metric), cell in grid.ordered
        ],
        "claims": [_claim(result) for result in grid.claim_results],
        "ranks": [_ranking(ranking) for ranking in grid.ranks],
    }


def _cell(cell: GridCell) -> dict[str, Any]:
    selection = cell.selection
    return {
        "state": cell.state,
        "mean": tidy(cell.mean),
        "std": tidy(cell.std),
        "n": cell.n,
        "planned": cell.planned,
        "interval": [tidy(x) for x in cell.interval] if cell.interval else None,
        "samples": {s.statistic: [tidy(v) for v in s.values] for s in cell.samples},
        "seeds": list(cell.seeds),
        "published": cell.published_value,
        "published_details": cell.published.model_dump(mode="json") if cell.published else None,
        "expected_miss": cell.expected_miss.why if cell.expected_miss else None,
        "expected_value": cell.expected_miss.value if cell.expected_miss else None,
        "delta": tidy(cell.delta),
        "verdict": cell.verdict,
        "condition": cell.judgement.condition or None if cell.judgement else None,
        "beyond_margin": bool(cell.judgement and cell.judgement.far),
        "sensitivity": dict(cell.judgement.sensitivity) if cell.judgement else {},
        "fragile": list(cell.judgement.fragile) if cell.judgement else [],
        "own_teacher": cell.own_teacher,
        "seeds_needed": cell.seeds_needed,
        "comparisons": [_comparison(found) for found in cell.comparisons],
        "overrides": list(cell.overrides),
        "marks": [{"kind": mark.kind, "text": mark.text} for mark in cell.marks],
        "selection": None
        if selection is None
        else {
            "chosen": selection.chosen,
            "on": selection.on,
            "candidates": selection.candidates,
            "bias": tidy(selection.bias),
        },
        "diverged_seeds": list(cell.diverged_seeds),
        "failed_seeds": list(cell.failed_seeds),
        "evaluated_checkpoint": cell.exact,
        "cost": None if cell.cost is None else cell.cost._asdict(),
        "runs": list(cell.runs),
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "statistic": found.statistic,
        "ours": tidy(found.centre),
        "std": tidy(found.std),
        "n": found.n,
        "delta": tidy(found.delta),
        "interval": None if found.low is None else [tidy(found.low), tidy(found.high)],
        "p_holm": tidy(found.p),
        "verdict": found.verdict,
        "seeds_needed": found.seeds_needed,
        "noise": found.noise,
    }


def _claim(result: ClaimResult) -> dict[str, Any]:
    return {
        "text": result.claim.text,
        "source": result.claim.source,
        "verdict": result.verdict,
        "why": result.detail,
        "seeds_needed": result.seeds_needed,
    }


def _ranking(ranking: Ranking) -> dict[str, Any]:
    return {
        "metric": ranking.metric,
        "average": {row: tidy(rank) for row, rank in ranking.average},
        "columns": list(ranking.columns),
        "critical_difference": tidy(ranking.critical_difference),
        "friedman_p": tidy(ranking.p),
        "left_out": list(ranking.left_out),
        "overridden": ranking.overridden,
        "teachers": ranking.teachers,
        "pairs": [
            {
                "row": pair.row,
                "other": pair.other,
                "gain": tidy(pair.gain),
                "interval": [tidy(pair.low), tidy(pair.high)],
                "improvement": tidy(pair.improvement),
                "improvement_interval": [tidy(pair.improvement_low), tidy(pair.improvement_high)],
            }
            for pair in ranking.pairs
        ],
    }


def _whole(whole: WholeTable) -> dict[str, Any]:
    return {
        "metric": whole.metric,
        "reproduced": whole.reproduced,
        "judged": whole.judged,
        "expected": tidy(whole.expected),
        "falsely_if_off_by_the_margin": tidy(whole.by_chance),
        "mean_shift": None if whole.mean is None else _shift(whole.mean),
        "off": [_shift(shift) for shift in whole.off],
        "left_out": whole.left_out,
        "fallen_seeds": whole.fallen,
    }


def _shift(shift: Shift) -> dict[str, Any]:
    return {
        "kind": shift.kind,
        "name": shift.name or None,
        "shift": tidy(shift.shift),
        "interval": [tidy(shift.low), tidy(shift.high)],
        "p_holm": tidy(shift.p),
    }
