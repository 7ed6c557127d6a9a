"""What all renderings share: words, letters, the best of a column, and the data formats."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.results.grid import Grid, GridCell, HyperparameterChoice, Mark, MarkKind, State
from benchmark.results.judge import judge
from benchmark.results.render import csv as csv_format
from benchmark.results.render import json as json_format
from benchmark.results.render import latex, layout, markdown
from benchmark.results.render.layout import Leaf
from benchmark.table.published import ExpectedMiss
from tests.results.grids import claim, measured, published, small, wide, with_cell

RENDERERS: dict[str, Callable[[Grid], str]] = {
    "md": markdown.render,
    "tex": lambda grid: latex.render(grid, ("paper", "side_by_side"), document=True),
    "csv": csv_format.render,
    "json": json_format.render,
}


def leaf(grid: Grid) -> Leaf:
    return layout.leaves(grid, [grid.protocol])[0]


def test_the_best_of_a_column_is_trained_and_counts() -> None:
    cells = {
        "Teacher": measured([79.0]),
        "Student": measured([69.0]),
        "KD": measured([71.004]),
        "DKD": measured([71.001]),
        "Both": measured([78.0]),
        "Other": GridCell(State.REFERENCE, published=published(80.0)),
    }
    grid = small(cells)
    rows = tuple(replace(row, counts_for_best=row.name != "Both") for row in grid.rows)
    grid = replace(grid, rows=rows)
    # Two rows that print alike are both best.
    assert layout.best(grid, leaf(grid)) == {"KD", "DKD"}
    assert layout.best(replace(grid, decimals=3), leaf(grid)) == {"KD"}
    assert layout.best(replace(grid, show_as="error"), leaf(grid)) == {"Student"}
    assert layout.best(small({"KD": GridCell(State.MISSING)}), leaf(grid)) == frozenset()


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        (GridCell(State.MISSING), "missing"),
        (GridCell(State.QUEUED), "queued"),
        (GridCell(State.RUNNING), "running"),
        (GridCell(State.FAILED), "failed"),
        (GridCell(State.DIVERGED), "diverged"),
    ],
)
def test_cells_without_values_are_told_apart(cell: GridCell, word: str) -> None:
    grid = small({"KD": cell})
    marks = layout.footnotes(grid)
    shown = layout.show(grid, ("KD", "pair", "top1"), "last", marks, is_best=False)
    assert (shown.mean, shown.word) == ("", word)
    for renderer in ("md", "tex"):
        assert word in RENDERERS[renderer](grid)


@pytest.mark.parametrize(
    ("state", "word"), [(State.PARTIAL, ""), (State.RUNNING, "running"), (State.FAILED, "failed")]
)
def test_a_filling_cell_shows_what_it_has(state: State, word: str) -> None:
    grid = small({"KD": measured([70.0, 71.0], planned=3, state=state)})
    marks = layout.footnotes(grid)
    shown = layout.show(grid, ("KD", "pair", "top1"), "last", marks, is_best=False)
    assert (shown.mean, shown.std, shown.seeds, shown.word) == ("70.50", "0.71", "2 of 3", word)


def test_a_place_that_the_table_lacks_is_a_dash() -> None:
    grid = wide(1)
    cells = {key: cell for key, cell in grid.cells.items() if key[0] != "KD"}
    grid = replace(grid, cells=cells)
    key = ("KD", grid.columns[0].name, "top1")
    shown = layout.show(grid, key, "last", layout.footnotes(grid), is_best=False)
    assert shown.word == "-"


def test_letters_come_in_the_order_of_reading() -> None:
    """A row's name is read before its cells, and a cell's letters go up."""
    own, shared, late = (Mark(MarkKind.OTHER, text) for text in ("own", "shared", "late"))
    plain = measured([70.0])
    cells = {
        "KD": replace(plain, marks=(own, shared)),
        "DKD": replace(plain, marks=(late, own)),
        "AT": plain,
    }
    grid = small(cells)
    found = layout.footnotes(grid)
    shown = [
        (found.row_letters(n), found.letters((n, "pair", "top1"), c)) for n, c in cells.items()
    ]
    assert shown == [("a,b", ""), ("a,c", ""), ("", "")]


def test_letters_are_shared_and_what_all_share_is_said_once() -> None:
    everywhere = Mark(MarkKind.OVERRIDE, "epochs 3")
    alpha, tau = Mark(MarkKind.ASSUMED, "alpha = 1"), Mark(MarkKind.ASSUMED, "tau = 2")
    odd = Mark(MarkKind.OTHER, "odd")
    grid = wide(2, seeds=1)
    first, second = (column.name for column in grid.columns)
    for row in grid.rows[1:]:
        for column in (first, second):
            marks = [everywhere]
            marks += [alpha, tau] if row.name in ("KD", "DKD") else []
            marks += [odd] if (row.name, column) in (("KD", first), ("RKD", second)) else []
            grid = with_cell(grid, row.name, column, measured([70.0], marks=tuple(marks)))
    found = layout.footnotes(grid)
    assert found.common == (everywhere,)
    # "odd" is met first; alpha and tau are on the same cells, whole rows of them.
    assert layout.lettered(found) == [("a", "odd"), ("b", "assumed: alpha = 1; tau = 2")]
    assert [found.row_letters(name) for name in ("KD", "DKD", "RKD", "Teacher")] == [
        "b",
        "b",
        "",
        "",
    ]
    keys = [("KD", first), ("KD", second), ("DKD", first), ("RKD", first), ("RKD", second)]
    letters = [found.letters((*k, "top1"), grid.cells[*k, "top1"]) for k in keys]
    assert letters == ["a", "", "", "", "a"]
    assert "All trained cells: epochs 3" in layout.notes(grid, found, "paper")


def test_notes_are_sentences() -> None:
    grid = small(
        {"KD": measured([70.0])}, footnotes=("it ends with a dot.",), protocol_note="lower"
    )
    notes = layout.notes(grid, layout.footnotes(grid), "paper")
    assert "Lower" in notes
    assert "It ends with a dot" in notes


def test_letters_go_on_after_z() -> None:
    cells = {
        f"row{i}": measured([70.0], marks=(Mark(MarkKind.OTHER, f"remark {i}"),)) for i in range(28)
    }
    grid = small(cells)
    letters = [letter for letter, _ in layout.lettered(layout.footnotes(grid))]
    assert letters[:2] + letters[25:] == ["a", "b", "z", "aa", "ab"]


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [(-0.001, True, "+0.00"), (-0.001, False, "0.00"), (-0.5, True, "-0.50"), (3.0, True, "+3.00")],
)
def test_no_negative_zero(value: float, sign: bool, text: str) -> None:
    assert layout.fixed(value, 2, sign=sign) == text


def test_a_table_without_published_values_says_so() -> None:
    grid = wide(1)
    grid = replace(grid, cells={k: replace(c, published=None) for k, c in grid.cells.items()})
    judged = judge(grid)
    for renderer in ("md", "tex"):
        assert "Published values: none" in RENDERERS[renderer](judged)
    # Nothing can stand beside: the paper's layout is rendered whatever was asked.
    assert "70." in latex.render(judged, ("side_by_side",))


MISS = ExpectedMiss(row="KD", column="pair", value=69.0, reason="nobody gets it", source="a report")


def test_an_unexpected_hit_is_shouted() -> None:
    cell = measured([70.0] * 5, published=published(70.0, n=5), expected_miss=MISS)
    grid = judge(small({"KD": cell}))
    for renderer in ("md", "tex"):
        assert "UNEXPECTED HIT: KD, pair, top-1: nobody gets it (a report)" in RENDERERS[renderer](
            grid
        )
    missed = judge(small({"KD": replace(cell, published=published(75.0, n=5))}))
    for renderer in ("md", "tex"):
        assert "Expected miss: KD, pair: nobody gets it (a report)" in RENDERERS[renderer](missed)
        assert "UNEXPECTED HIT" not in RENDERERS[renderer](missed)


def full() -> Grid:
    said = (claim("KD", "better", ["Student"]), claim("KD", "worse", ["DKD"], at_least=1))
    grid = wide(3, claims=said, made_by="bench collect --table wide")
    column = grid.columns[0].name
    for row, state in zip(("CRD", "OFD", "RKD", "SimKD"), list(State)[2:6], strict=True):
        cell = GridCell(state, planned=3, published=published(70.0), diverged_seeds=(1,))
        grid = with_cell(grid, row, column, cell)
    return judge(grid)


@pytest.mark.parametrize("kind", RENDERERS)
def test_the_same_grid_gives_the_same_bytes(kind: str) -> None:
    grid = full()
    cells = list(grid.cells.items())
    random.Random(1).shuffle(cells)
    assert RENDERERS[kind](replace(grid, cells=dict(cells))) == RENDERERS[kind](grid)


def test_json_has_the_contract_and_the_numbers() -> None:
    grid = full()
    data = json.loads(json_format.render(grid))
    assert data["schema"] == 1
    assert data["table"] == "wide"
    assert len(data["cells"]) == len(grid.cells)
    wanted = {"row", "column", "metric", "mean", "std", "n", "published", "delta", "verdict"}
    assert all(wanted | {"overrides", "runs"} <= set(cell) for cell in data["cells"])
    by_key = {(c["row"], c["column"], c["metric"]): c for c in data["cells"]}
    for key, cell in grid.cells.items():
        found = by_key[key]
        assert found["state"] == cell.state
        assert found["mean"] == pytest.approx(cell.mean)
        assert found["published"] == cell.published_value
        assert found["verdict"] == cell.verdict
        assert found["runs"] == list(cell.runs)
        if found["delta"] is not None:
            assert found["delta"] == pytest.approx(found["mean"] - found["published"])
    assert [c["verdict"] for c in data["claims"]] == [r.verdict for r in grid.claim_results]
    assert {"critical_difference", "friedman_p", "teachers", "pairs"} <= set(data["ranks"][0])
    assert data["whole"][0]["judged"] > 0


def test_csv_has_a_line_for_every_cell() -> None:
    grid = full()
    lines = list(csv.DictReader(io.StringIO(csv_format.render(grid))))
    assert len(lines) == len(grid.cells)
    for line, (key, cell) in zip(lines, grid.ordered, strict=True):
        assert (line["row"], line["column"], line["metric"]) == key
        assert line["mean"] == ("" if cell.mean is None else str(csv_format.tidy(cell.mean)))
        assert line["verdict"] == (cell.verdict or "")


def test_csv_tells_choices_and_misses_and_lists_apart() -> None:
    overrides = ("recipe.epochs = 1; or so", 'kd.kind = "a;b"')
    cell = measured(
        [70.0, 70.5],
        published=published(75.0, n=5),
        expected_miss=MISS,
        overrides=overrides,
        selection=HyperparameterChoice("alpha = 0.3, temperature = 5", "test", 9),
        diverged_seeds=(2, 3),
        failed_seeds=(4,),
        planned=5,
    )
    grid = judge(small({"KD": cell}))
    (line,) = csv.DictReader(io.StringIO(csv_format.render(grid)))
    assert json.loads(line["overrides"]) == list(overrides)
    marks = grid.cells["KD", "pair", "top1"].marks
    assert json.loads(line["marks"]) == [mark.text for mark in marks]
    assert (line["seeds"], line["values"]) == ("0;1", "70.0;70.5")
    assert (line["diverged_seeds"], line["failed_seeds"]) == ("2;3", "4")
    assert (line["chosen"], line["chosen_on"]) == ("alpha = 0.3, temperature = 5", "test")
    assert line["candidates"] == "9"
    assert 0.2 < float(line["selection_bias"]) < 0.3
    assert (line["expected_value"], line["expected_miss"]) == ("69.0", "nobody gets it (a report)")
    plain = judge(small({"KD": measured([70.0])}))
    (line,) = csv.DictReader(io.StringIO(csv_format.render(plain)))
    assert not any(line[name] for name in ("overrides", "marks", "chosen", "expected_miss"))


def test_underpowered_is_said_rightly_beside_an_interval_that_excludes_zero() -> None:
    """One of 30 cells at p = 0.02: Holm's correction keeps it open, whatever its interval."""
    cells = {
        f"row{i}": measured([70.1, 70.0], published=published(70.0, n=5, statistic="last"))
        for i in range(29)
    }
    odd = measured([70.33, 70.34], published=published(71.0, n=5, statistic="last"))
    grid = judge(small({"odd": odd, **cells}))
    found = grid.cells["odd", "pair", "top1"].comparisons[0]
    assert (found.verdict, found.high is not None and found.high < 0) == ("underpowered", True)
    (said,) = (text for verdict, text in layout.legend(grid) if verdict == "underpowered")
    assert "too wide" not in said
    assert "after Holm's correction" in said
    never = replace(found, seeds_needed=None)
    said = layout.verdict_words(never)
    assert said == "underpowered (not even 100 further seeds surely settle it)"


@pytest.mark.parametrize("renderer", ["md", "tex"])
def test_a_column_is_not_said_to_be_best_over_values_that_are_last(renderer: str) -> None:
    both = {"best": [71.0, 71.2]}
    stated = measured([70.0, 70.2], **both, published=published(70.1, n=5, statistic="last"))
    unstated = measured([70.0, 70.2], **both, published=published(70.9))
    cells = {"A": stated, "B": unstated}
    samples = {
        name: replace(cell, samples=tuple(reversed(cell.samples))) for name, cell in cells.items()
    }
    text = RENDERERS[renderer](judge(small(samples, protocol="best")))
    assert "ours, best" not in text
    assert "ours, last" in text
    assert "ompared by last, as published" in text
    only = judge(small({"B": samples["B"]}, protocol="best"))
    assert "ours, best" in RENDERERS[renderer](only)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_name_survives_the_data_formats(name: str) -> None:
    grid = small({name: measured([70.0])}, title=name)
    assert json.loads(json_format.render(grid))["cells"][0]["row"] == name
    (line,) = csv.DictReader(io.StringIO(csv_format.render(grid), newline=""))
    assert line["row"].removeprefix("'") == name.removeprefix("'")


@pytest.mark.parametrize("name", ["=1+1", "+KD", "-KD", "@KD", "NA", "NaN", "None", "null"])
def test_csv_holds_no_formula_and_no_missing_value_for_a_name(name: str) -> None:
    text = csv_format.render(small({name: measured([70.0])}))
    assert next(csv.DictReader(io.StringIO(text)))["row"] == f"'{name}"
    read = pandas.read_csv(io.StringIO(text))
    assert list(read["row"]) == [f"'{name}"]
    assert list(read["mean"]) == [70.0]


def test_collecting_needs_no_torch() -> None:
    modules = "judge, render.csv, render.json, render.latex, render.markdown"
    names = ", ".join(f"benchmark.results.{name.strip()}" for name in modules.split(","))
    code = f"import {names}, sys; print({{'torch', 'matplotlib'}} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
