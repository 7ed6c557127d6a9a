"""CSV from a Grid: one line a cell, for spreadsheets and data frames; numbers unrounded.

Numbers and run keys of one field are joined by ``;``, which none of them holds; texts, which
may hold anything, are a JSON array. A text that a spreadsheet would take for a formula, or a data
frame for a missing value (a row named NA), begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from benchmark.results.grid import Grid, GridCell
from benchmark.results.render.layout import tidy

FIELDS = """
table row group column teacher student metric state statistic mean std n planned interval_low
interval_high values seeds published published_std published_n published_statistic
published_source expected_value expected_miss compared_by delta delta_low delta_high p_holm
verdict condition beyond_margin fragile seeds_needed noise chosen chosen_on candidates
selection_bias diverged_seeds failed_seeds overrides marks runs
"""

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
# What pandas reads as a missing value, in lower case.
_MISSING = frozenset(
    ["#n/a", "#n/a n/a", "#na", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "null", "nan", "none"]
)


def render(grid: Grid) -> str:
    """Return one line for each cell of the table, missing ones included."""
    rows = {row.name: row for row in grid.rows}
    columns = {column.name: column for column in grid.columns}
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS.split(), lineterminator="\n")
    writer.writeheader()
    for (row, column, metric), cell in grid.ordered:
        found = {
            "table": grid.name,
            "row": row,
            "group": rows[row].group,
            "column": column,
            "teacher": rows[row].teacher or columns[column].teacher,
            "student": rows[row].student or columns[column].student,
            "metric": metric,
            **_ours(cell),
            **_theirs(cell),
        }
        writer.writerow({name: _plain(value) for name, value in found.items()})
    return out.getvalue()


def _plain(value: object) -> object:
    """Return a text so that no program sees more in it than a text."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith(_FORMULAS) or value.lower() in _MISSING else value


def _ours(cell: GridCell) -> dict[str, object]:
    low, high = cell.interval or (None, None)
    return {
        "state": cell.state,
        "statistic": cell.samples[0].statistic if cell.values else None,
        "mean": tidy(cell.mean),
        "std": tidy(cell.std),
        "n": cell.n,
        "planned": cell.planned,
        "interval_low": tidy(low),
        "interval_high": tidy(high),
        "values": _joined(tidy(value) for value in cell.values),
        "seeds": _joined(cell.seeds),
        "diverged_seeds": _joined(cell.diverged_seeds),
        "failed_seeds": _joined(cell.failed_seeds),
        "overrides": _array(cell.overrides),
        "marks": _array(mark.text for mark in cell.marks),
        "runs": _joined(cell.runs),
        **_chosen(cell),
    }


def _chosen(cell: GridCell) -> dict[str, object]:
    if cell.selection is None:
        return {}
    return {
        "chosen": cell.selection.chosen,
        "chosen_on": cell.selection.on,
        "candidates": cell.selection.candidates,
        "selection_bias": tidy(cell.selection.bias),
    }


def _joined(items: Iterable[object]) -> str:
    return ";".join(map(str, items))


def _array(texts: Iterable[str]) -> str:
    found = list(texts)
    return json.dumps(found, ensure_ascii=False) if found else ""


def _theirs(cell: GridCell) -> dict[str, object]:
    found: dict[str, object] = {"verdict": cell.verdict}
    if cell.judgement is not None:
        found |= {
            "condition": cell.judgement.condition,
            "beyond_margin": cell.judgement.far,
            "fragile": _array(cell.judgement.fragile),
        }
    if cell.published is not None:
        found |= {
            "published": cell.published.value,
            "published_std": cell.published.std,
            "published_n": cell.published.n,
            "published_statistic": cell.published.statistic,
            "published_source": cell.published.source,
        }
    if cell.expected_miss is not None:
        found |= {
            "expected_value": cell.expected_miss.value,
            "expected_miss": cell.expected_miss.why,
        }
    if cell.comparisons:
        first = cell.comparisons[0]
        found |= {
            "compared_by": first.statistic,
            "delta": tidy(first.delta),
            "delta_low": tidy(first.low),
            "delta_high": tidy(first.high),
            "p_holm": tidy(first.p),
            "seeds_needed": first.seeds_needed,
            "noise": first.noise,
        }
    return found
