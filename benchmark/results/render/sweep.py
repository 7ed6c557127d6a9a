"""A sweep's combinations as Markdown, LaTeX (booktabs, to \\input), CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.base.errors import UserError, unknown
from benchmark.base.files import make_directory, write_text
from benchmark.results.render.latex_parts import row_of
from benchmark.results.render.latex_text import escape
from benchmark.results.sweep import Combination, sentences, sweep
from benchmark.table.load import load_table
from benchmark.table.selection import Selection

_HEAD = ("row", "column", "metric", "combination", "accuracy", "held out", "chosen")


def _cells(one: Combination) -> list[str]:
    spread = "" if one.std is None else f" \N{PLUS-MINUS SIGN} {one.std:.2f}"
    by = ["held out"] * one.best_held_out + ["test"] * one.best_test
    flatters = "" if one.flatters is None else f" (flatters by up to {one.flatters:.2f})"
    held = "" if one.held_out is None else f"{one.held_out:.2f}"
    value = f"{one.mean:.2f}{spread} ({one.n})"
    return [one.row, one.column, one.metric, one.combination, value, held, ", ".join(by) + flatters]


def _markdown(found: Sequence[Combination]) -> str:
    rows = [list(_HEAD), ["---"] * len(_HEAD), *map(_cells, found)]
    lines = [f"| {' | '.join(text.replace('|', '/') for text in row)} |" for row in rows]
    return "\n".join([*lines, "", *(f"{said}." for said in sentences(found))])


def _latex(found: Sequence[Combination]) -> str:
    """Return a tabular with what either choice gives below; bold: chosen on held-out images."""
    lines = [
        r"\begin{tabular}{llllrrl}",
        r"\toprule",
        row_of([escape(name) for name in _HEAD]),
        r"\midrule",
    ]
    for before, one in zip([None, *found], found, strict=False):
        if before is not None and (before.row, before.column) != (one.row, one.column):
            lines.append(r"\midrule")
        cells = [escape(text) for text in _cells(one)]
        if one.best_held_out:
            cells[4] = rf"\textbf{{{cells[4]}}}"
        lines.append(row_of(cells))
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip{{\footnotesize {escape(said)}.}}" for said in sentences(found)]
    return "\n".join(lines)


def _csv(found: Sequence[Combination]) -> str:
    import pandas as pd

    rows = [one.flat() for one in found]
    return str(pd.DataFrame(rows).to_csv(index=False)).rstrip("\n")


def _json(found: Sequence[Combination]) -> str:
    return json.dumps({"schema": 1, "combinations": [vars(one) for one in found]}, indent=1)


FORMATS: dict[str, Callable[[Sequence[Combination]], str]] = {
    "md": _markdown,
    "tex": _latex,
    "csv": _csv,
    "json": _json,
}


def render(found: Sequence[Combination], kind: str) -> str:
    """Return the combinations in one of ``FORMATS``."""
    return FORMATS[kind](found)


def print_sweep(
    name: str,
    runs_dir: Path,
    chosen: Selection | None,
    protocol: str | None,
    kind: str | None,
    out: Path | None,
) -> str:
    """Return a table's combinations as text, or where they were written to.

    ``kind``: formats separated by commas, of which one alone can be printed.
    """
    wanted = list(dict.fromkeys((kind or "md").split(",")))
    for one in wanted:
        if one not in FORMATS:
            raise unknown("format", one, FORMATS, "--format of --sweep")
    if len(wanted) > 1 and out is None:
        raise UserError("--sweep prints one format; give --out for several")
    found = sweep(name, runs_dir, chosen, protocol)
    if out is None:
        return render(found, wanted[0])
    make_directory(out)
    paths = [out / f"{load_table(name).name}.sweep.{one}" for one in wanted]
    for path, one in zip(paths, wanted, strict=True):
        write_text(path, f"{render(found, one)}\n")
    return f"written: {', '.join(map(str, paths))}"
