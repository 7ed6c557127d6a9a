"""Sentences of a paper against rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from benchmark.results.claims import compare_cells
from benchmark.results.grid import (
    ClaimResult,
    ClaimVerdict,
    Grid,
    GridCell,
    HyperparameterChoice,
    State,
)
from benchmark.results.judge import judge
from benchmark.results.priors import GENERAL
from benchmark.table.published import Claim, Expectation
from tests.results.grids import claim, measured, small, wide, with_cell

TABLES = 400
LOW, MIDDLE, HIGH = [70.0, 70.1, 69.9], [70.1, 70.2, 69.9], [72.0, 72.1, 71.9]


def verdict(said: Claim, cells: dict[str, GridCell], **fields: Any) -> ClaimVerdict:
    return judge(small(cells, claims=(said,), **fields)).claim_results[0].verdict


def rows(**values: list[float]) -> dict[str, GridCell]:
    return {name: measured(v) for name, v in values.items()}


@pytest.mark.parametrize(
    ("relation", "a", "b", "expected"),
    [
        ("better", HIGH, LOW, ClaimVerdict.HOLDS),
        ("better", LOW, HIGH, ClaimVerdict.FAILS),
        ("better", MIDDLE, LOW, ClaimVerdict.NO_GAIN),
        ("worse", LOW, HIGH, ClaimVerdict.HOLDS),
        ("worse", HIGH, LOW, ClaimVerdict.FAILS),
        ("not_worse", MIDDLE, LOW, ClaimVerdict.HOLDS),
        ("not_worse", LOW, HIGH, ClaimVerdict.FAILS),
        ("not_worse", [70.0], [70.3], ClaimVerdict.MORE_SEEDS),
    ],
)
def test_relations(relation: str, a: list[float], b: list[float], expected: ClaimVerdict) -> None:
    assert verdict(claim("a", relation, ["b"]), rows(a=a, b=b)) is expected


def test_better_means_lower_where_errors_are_printed() -> None:
    said = claim("a", "better", ["b"])
    assert verdict(said, rows(a=LOW, b=HIGH), show_as="error") is ClaimVerdict.HOLDS
    assert verdict(said, rows(a=HIGH, b=LOW), show_as="error") is ClaimVerdict.FAILS


def test_by_asks_for_that_many_points() -> None:
    cells = rows(a=HIGH, b=LOW)  # two points apart
    assert verdict(claim("a", "better", ["b"], by=1.0), cells) is ClaimVerdict.HOLDS
    assert verdict(claim("a", "better", ["b"], by=3.0), cells) is ClaimVerdict.FAILS
    assert verdict(claim("a", "better", ["b"], by=2.0), cells) is ClaimVerdict.MORE_SEEDS
    assert verdict(claim("b", "worse", ["a"], by=1.0), cells) is ClaimVerdict.HOLDS
    assert verdict(claim("b", "not_worse", ["a"], by=3.0), cells) is ClaimVerdict.HOLDS


def test_worse_than_either_needs_both() -> None:
    said = claim("both", "worse", ["ce", "kl"])
    assert verdict(said, rows(both=LOW, ce=HIGH, kl=HIGH)) is ClaimVerdict.HOLDS
    assert verdict(said, rows(both=LOW, ce=HIGH, kl=MIDDLE)) is ClaimVerdict.MORE_SEEDS
    assert verdict(said, rows(both=HIGH, ce=LOW, kl=HIGH)) is ClaimVerdict.FAILS


def test_rows_without_runs_need_runs() -> None:
    cells = {**rows(a=HIGH), "b": GridCell(State.MISSING)}
    found = judge(small(cells, claims=(claim("a", "better", ["b"]),))).claim_results[0]
    assert found.verdict is ClaimVerdict.MORE_SEEDS
    assert found.detail == "no finished runs to compare"


def test_runs_with_overrides_take_no_part_in_claims() -> None:
    cells = {"a": measured(HIGH, overrides=("epochs = 1",)), **rows(b=LOW)}
    found = judge(small(cells, claims=(claim("a", "better", ["b"]),))).claim_results[0]
    assert found.verdict is ClaimVerdict.MORE_SEEDS
    assert found.detail == "no finished runs to compare; cells with overrides left out: 1"


def over_columns(gaps: list[float], **expect: Any) -> ClaimResult:
    """KD against Student, better by each of ``gaps`` in as many columns."""
    grid: Grid = wide(len(gaps), claims=(claim("KD", "better", ["Student"], **expect),))
    for column, gap in zip(grid.columns, gaps, strict=True):
        grid = with_cell(grid, "Student", column.name, measured(LOW))
        grid = with_cell(grid, "KD", column.name, measured([v + gap for v in LOW]))
    return judge(grid).claim_results[0]


def test_almost_every_column() -> None:
    gaps = [2.0, 2.0, 2.0, -2.0]
    assert over_columns(gaps).verdict is ClaimVerdict.FAILS
    assert over_columns(gaps, at_least=3).verdict is ClaimVerdict.HOLDS
    assert over_columns([2.0, 2.0, 0.1, -2.0], at_least=3).verdict is ClaimVerdict.MORE_SEEDS
    assert over_columns([2.0, 2.0, -2.0, -2.0], at_least=3).verdict is ClaimVerdict.FAILS
    few = over_columns(gaps, columns=["resnet56-resnet20"])
    assert few.verdict is ClaimVerdict.HOLDS
    assert "1 of 1 columns" in few.detail


def test_a_claim_with_two_parts_needs_both() -> None:
    parts = [
        {"row": "a", "relation": "better", "than": ["b"]},
        {"row": "b", "relation": "better", "than": ["c"]},
    ]
    said = Claim.model_validate({"text": "x", "expect": parts, "source": "paper"})
    assert verdict(said, rows(a=HIGH, b=MIDDLE, c=LOW)) is ClaimVerdict.NO_GAIN
    assert verdict(said, rows(a=[74.0, 74.1], b=HIGH, c=LOW)) is ClaimVerdict.HOLDS
    assert verdict(said, rows(a=LOW, b=HIGH, c=LOW)) is ClaimVerdict.FAILS


def test_equal_seeds_are_paired_and_others_are_not() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(70, 0.3, 12)
    left, right = measured(shared + 0.15), measured(shared + rng.normal(0, 0.02, 12))
    paired = compare_cells(left, right, GENERAL)
    moved = measured(right.values, seeds=tuple(range(20, 32)))
    unpaired = compare_cells(left, moved, GENERAL)
    assert paired.delta == pytest.approx(unpaired.delta)
    assert paired.error < unpaired.error


def test_equal_rows_are_seldom_called_different() -> None:
    """Of 500 claims over rows that do not differ, at most one in forty holds or fails."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(500):
        cells = rows(a=list(rng.normal(70, 0.22, 3)), b=list(rng.normal(70, 0.22, 3)))
        found.append(verdict(claim("a", "better", ["b"]), cells))
    for wrong in (ClaimVerdict.HOLDS, ClaimVerdict.FAILS):
        assert found.count(wrong) / 500 <= 0.025 + 3 * (0.025 * 0.975 / 500) ** 0.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (1.05, ClaimVerdict.HOLDS),
        (1.4, ClaimVerdict.MORE_SEEDS),  # within the margin, but its interval is not
        (0.0, ClaimVerdict.FAILS),
        (2.2, ClaimVerdict.FAILS),
        (-1.05, ClaimVerdict.FAILS),  # the same magnitude with the wrong sign
    ],
)
def test_a_gain_of_so_many_points(values: float, expected: ClaimVerdict) -> None:
    low = [70.0, 70.1, 69.9, 70.05, 69.95]
    said = claim("a", None, ["b"], about=1.05)
    assert verdict(said, rows(a=[v + values for v in low], b=low)) is expected
    # As a loss; and in errors, where a gain is a lower number.
    lost = claim("b", None, ["a"], about=-1.05)
    assert verdict(lost, rows(a=[v + values for v in low], b=low)) is expected
    errors = rows(a=[30 - v - values + 70 for v in low], b=[30 - v + 70 for v in low])
    assert verdict(said, errors, show_as="error") is expected


def test_a_gain_is_shown_beside_the_claimed_one() -> None:
    cells = rows(a=HIGH, b=LOW)
    found = judge(small(cells, claims=(claim("a", None, ["b"], about=1.9),))).claim_results[0]
    assert "difference +2.00, claimed +1.90" in found.detail


@pytest.mark.parametrize(
    ("expect", "show_as", "expected"),
    [
        ({"above": 71}, "accuracy", ClaimVerdict.HOLDS),  # a is 72
        ({"above": 73}, "accuracy", ClaimVerdict.FAILS),
        ({"above": 72}, "accuracy", ClaimVerdict.MORE_SEEDS),
        ({"below": 73}, "accuracy", ClaimVerdict.HOLDS),
        ({"below": 71}, "accuracy", ClaimVerdict.FAILS),
        # Above and below speak of the printed number.
        ({"above": 71}, "error", ClaimVerdict.HOLDS),
        ({"below": 71}, "error", ClaimVerdict.FAILS),
    ],
)
def test_a_row_against_a_number(
    expect: dict[str, float], show_as: str, expected: ClaimVerdict
) -> None:
    said = claim("a", None, [], **expect)
    found = judge(small(rows(a=HIGH), claims=(said,), show_as=show_as)).claim_results[0]
    assert found.verdict is expected
    assert "value 72.00" in found.detail


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"relation": "better", "about": 1.0, "than": ["b"]}, "exactly one of"),
        ({"than": ["b"]}, "exactly one of"),
        ({"relation": "better"}, "`than` goes with"),
        ({"above": 94.0, "than": ["b"]}, "`than` goes with"),
        ({"about": 1.0, "than": ["b"], "by": 0.5}, "`by` goes with"),
        (
            {"relation": "better", "than": ["b"], "columns": ["x"], "tables": ["t"]},
            "do not go together",
        ),
    ],
)
def test_an_expectation_is_of_one_kind(expect: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Expectation.model_validate({"row": "a", **expect})


def test_a_row_that_a_column_lacks_is_not_spoken_of_there() -> None:
    grid = wide(2, claims=(claim("KD", "better", ["Student", "RKD"]),))
    first, second = (column.name for column in grid.columns)
    for column in (first, second):
        grid = with_cell(grid, "Student", column, measured(LOW))
        grid = with_cell(grid, "KD", column, measured(HIGH))
        grid = with_cell(grid, "RKD", column, measured([74.0, 74.1, 73.9]))
    (found,) = judge(grid).claim_results
    assert "established in 0 of 2 columns, refuted in 2" in found.detail
    gone = {key: cell for key, cell in grid.cells.items() if key[:2] != ("RKD", first)}
    (found,) = judge(replace(grid, cells=gone)).claim_results
    assert "established in 1 of 2 columns, refuted in 1" in found.detail


# -- claims over several tables -------------------------------------------------------------


def table_of(name: str, gap: float | None) -> Grid:
    """A table of one column where KD is better than Student by ``gap``; None: no runs."""
    if gap is None:
        cells = {row: GridCell(State.MISSING) for row in ("KD", "Student")}
    else:
        cells = rows(KD=[v + gap for v in LOW], Student=LOW)
    return small(cells, name=name)


def over_tables(gaps: list[float | None], **expect: Any) -> ClaimResult:
    names = [f"t{number}" for number in range(len(gaps))]
    said = claim("KD", "better", ["Student"], tables=names, **expect)
    first, *others = (table_of(n, gap) for n, gap in zip(names, gaps, strict=True))
    return judge(replace(first, claims=(said,)), others).claim_results[0]


def test_a_claim_over_several_tables_counts_all_their_columns() -> None:
    assert over_tables([2.0, 2.0, -2.0]).verdict is ClaimVerdict.FAILS
    found = over_tables([2.0, 2.0, -2.0], at_least=2)
    assert found.verdict is ClaimVerdict.HOLDS
    assert "established in 2 of 3 columns (2 asked for), refuted in 1" in found.detail
    assert "over t0, t1, t2" in found.detail
    waiting = over_tables([2.0, None, -2.0], at_least=2)
    assert waiting.verdict is ClaimVerdict.MORE_SEEDS
    assert "nothing to compare yet in t1" in waiting.detail
    assert over_tables([None, None]).detail == "no finished runs to compare; over t0, t1"


# -- rows that were chosen on the test set --------------------------------------------------


def chosen(rng: np.random.Generator, candidates: int, seeds: int, ahead: float) -> GridCell:
    """The best of ``candidates``, all equally good but one, which is ``ahead`` of the others."""
    means = np.full(candidates, 70.0 - ahead)
    means[0] = 70.0
    values = rng.normal(means[:, None], 0.22, (candidates, seeds))
    best = values[values.mean(axis=1).argmax()]
    return measured(best, selection=HyperparameterChoice("alpha = 0.3", "test", candidates))


@pytest.mark.slow
@pytest.mark.parametrize("candidates", [9, 18])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("relation", ["better", "worse"])
@pytest.mark.parametrize(("both", "ahead"), [(False, 0.0), (False, 5.0), (True, 0.0), (True, 5.0)])
def test_a_choice_on_the_test_set_makes_no_claim_hold(
    candidates: int, seeds: int, relation: str, both: bool, ahead: float
) -> None:
    """Of 200 claims over rows that do not differ, at most one in forty holds, or fails."""
    rng = np.random.default_rng(candidates + seeds)
    found = []
    for _ in range(200):
        a = chosen(rng, candidates, seeds, ahead)
        b = chosen(rng, candidates, seeds, 0.0) if both else measured(rng.normal(70, 0.22, seeds))
        found.append(verdict(claim("a", relation, ["b"]), {"a": a, "b": b}))
    for wrong in (ClaimVerdict.HOLDS, ClaimVerdict.FAILS):
        assert found.count(wrong) / 200 <= 0.025 + 3 * (0.025 * 0.975 / 200) ** 0.5


def test_the_bias_of_a_choice_is_said() -> None:
    a = measured([70.5, 70.6], selection=HyperparameterChoice("alpha = 0.3", "test", 9))
    said = claim("a", "better", ["b"])
    (found,) = judge(small({"a": a, **rows(b=[69.9, 69.9])}, claims=(said,))).claim_results
    assert "up to 0.23 taken off for choices made on the test set" in found.detail
    assert found.verdict is ClaimVerdict.MORE_SEEDS
    plain = replace(a, selection=None)
    (found,) = judge(small({"a": plain, **rows(b=[69.9, 69.9])}, claims=(said,))).claim_results
    assert "taken off" not in found.detail
    assert found.verdict is ClaimVerdict.HOLDS
    # One that is far ahead holds whatever the choice.
    ahead = replace(measured([74.0, 74.1]), selection=a.selection)
    assert verdict(said, {"a": ahead, **rows(b=[69.9, 69.9])}) is ClaimVerdict.HOLDS


def test_a_collapse_counts_as_a_guess() -> None:
    """All seeds diverged: the claim that it is worse holds; one of five says nothing yet."""
    gone = GridCell(State.DIVERGED, diverged_seeds=(0, 1, 2), planned=3)
    cells = {"a": gone, **rows(b=HIGH)}
    said = claim("a", "worse", ["b"], by=10.0)
    grid = judge(small(cells, claims=(said,), chance=(("top1", 1.0),)))
    (result,) = grid.claim_results
    assert result.verdict is ClaimVerdict.HOLDS
    assert "+71.00" in result.detail
    partly = measured([72.0, 72.1], diverged_seeds=(2,))
    assert verdict(said, {"a": partly, **rows(b=HIGH)}) is not ClaimVerdict.HOLDS


def test_about_a_small_gain_is_not_passed_by_none() -> None:
    """About 0.25 leaves half of it, not the table's half point: no gain does not pass."""
    many = [70.0, 70.1, 69.9, 70.05, 69.95] * 5
    none = rows(a=many, b=many)
    small_gain = Claim.model_validate(
        {"text": "x", "expect": {"row": "a", "about": 0.25, "than": ["b"]}, "source": "paper"}
    )
    assert verdict(small_gain, none) is not ClaimVerdict.HOLDS
    gain = rows(a=[v + 0.25 for v in many], b=many)
    assert verdict(small_gain, gain) is ClaimVerdict.HOLDS


def test_an_open_claim_says_how_many_seeds_decide_it() -> None:
    cells = rows(a=[70.0, 70.7], b=[69.9, 70.0])
    found = judge(small(cells, claims=(claim("a", "better", ["b"]),))).claim_results[0]
    assert found.verdict is ClaimVerdict.MORE_SEEDS
    assert found.seeds_needed is not None
    assert f"about {found.seeds_needed} seeds a cell would decide it" in found.detail


def test_one_seed_decides_no_claim() -> None:
    claims = (claim("a", "better", ["b"]),)
    for seeds, verdict in ((1, ClaimVerdict.MORE_SEEDS), (3, ClaimVerdict.HOLDS)):
        grid = small(rows(a=[73.0] * seeds, b=[70.0] * seeds), claims=claims)
        (found,) = judge(grid).claim_results
        assert found.verdict is verdict


@pytest.mark.slow
def test_a_claim_pays_for_looks_after_every_seed() -> None:
    """Rows that do not differ, looked at after each of seven seeds, of which five are planned."""
    rng = np.random.default_rng(11)
    said = claim("a", "better", ["b"])
    wrong = 0
    for _ in range(TABLES):
        a, b = rng.normal(70, 0.22, (2, 7))
        found = {
            verdict(said, {"a": measured(a[:n], planned=5), "b": measured(b[:n], planned=5)})
            for n in range(2, 8)
        }
        wrong += bool(found & {ClaimVerdict.HOLDS, ClaimVerdict.FAILS})
    # Either may be wrong in 2.5 %; without paying for looks it is 9 %.
    assert wrong / TABLES <= 0.05 + 2 * (0.05 * 0.95 / TABLES) ** 0.5


def test_one_look_of_many_asks_for_more() -> None:
    """The same numbers are a claim shown where they are all, and not yet where more may come."""
    cells = rows(a=[70.0, 70.1, 70.2], b=[69.6, 69.6, 69.7])
    said = claim("a", "better", ["b"])
    early = {name: replace(cell, planned=20) for name, cell in cells.items()}
    assert verdict(said, cells) is ClaimVerdict.HOLDS
    assert verdict(said, early) is ClaimVerdict.MORE_SEEDS
