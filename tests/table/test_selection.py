"""--only, --seeds and --set: what they mean, and what a slip of the finger gets."""

from __future__ import annotations

import pytest

from benchmark.base.errors import UserError
from benchmark.table.selection import Only, accepts, parse_seeds, parse_selection

KD = {"row": ["KD"], "column": ["a-b"], "student": ["b"], "method": ["kd"], "uses": ["kd"]}
BOTH = KD | {"row": ["KD + DKD"], "method": ["kd+dkd"], "uses": ["kd", "dkd"]}
BASELINE = KD | {"row": ["Student"], "method": [], "uses": []}


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", (3,)),
        ("0-4", (0, 1, 2, 3, 4)),
        ("0,2,5-7", (0, 2, 5, 6, 7)),
        (" 1 - 2 , 0 ", (1, 2, 0)),
        ("2,0-3,2", (2, 0, 1, 3)),
        ("5-5", (5,)),
    ],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4-0", r"the range 4-0 is empty; did you mean 0-4\?"),
        ("", r"'' is neither a seed nor a range such as 0-4"),
        ("0-", r"'0-' is neither"),
        ("-1", r"'-1' is neither"),
        ("1.5", r"'1\.5' is neither"),
        ("0,,2", r"'' is neither"),
        ("a", r"'a' is neither"),
        ("0-4-8", r"'0-4-8' is neither"),
        ("0-1000000", r"more than 100,000 seeds"),
    ],
)
def test_wrong_seeds(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_seeds(text)


def test_many_seeds_are_read_at_once() -> None:
    assert len(parse_seeds("0-99999,50000-149999")) == 150_000


@pytest.mark.parametrize(
    ("only", "selected"),
    [
        ([], [KD, BOTH, BASELINE]),
        (["method=kd"], [KD]),
        (["method=kd+dkd"], [BOTH]),
        (["uses=kd"], [KD, BOTH]),
        (["uses=kd", "uses=dkd"], [KD, BOTH]),
        (["uses!=dkd"], [KD, BASELINE]),
        (["uses=kd", "method!=kd"], [BOTH]),
        (["method=kd", "method=kd+dkd"], [KD, BOTH]),
        (["method=kd", "student=c"], []),
        (["row = KD + DKD "], [BOTH]),
        (["row!=KD", "row!=Student"], [BOTH]),
        (["row=KD", "row!=KD"], []),
    ],
)
def test_only(only: list[str], selected: list[dict[str, list[str]]]) -> None:
    parsed = parse_selection(only).only
    assert [values for values in (KD, BOTH, BASELINE) if accepts(parsed, values)] == selected


def test_an_equals_sign_may_stand_in_a_name() -> None:
    assert parse_selection(["row=KD (T=4)"]).only == (Only("row", "KD (T=4)", False),)


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("kd", r"expected KEY=VALUE or KEY!=VALUE"),
        ("row=", r"expected KEY=VALUE"),
        ("methd=kd", r"unknown key 'methd' in --only; did you mean 'method'\?"),
    ],
)
def test_wrong_only(only: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_selection([only])


def test_set_reads_values_as_a_table_would() -> None:
    found = parse_selection(
        sets=[
            "recipe.lr=5e-2",
            "recipe.schedule.milestones=[1, 2]",
            "recipe.clip_norm=null",
            "recipe.nesterov=true",
            "method.kd.temperature=1,2.5,4",
            "method.at.stages=[1, 2]",
            "method.dhkd.head=linear",
        ]
    )
    assert found.recipe == {
        "lr": 0.05,
        "schedule.milestones": [1, 2],
        "clip_norm": None,
        "nesterov": True,
    }
    assert found.options == {
        ("kd", "temperature"): (1, 2.5, 4),
        ("at", "stages"): ([1, 2],),
        ("dhkd", "head"): ("linear",),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe.lr", r"expected recipe=NAME, recipe\.FIELD=VALUE"),
        ("recipe.lr=", r"expected recipe=NAME, recipe\.FIELD=VALUE"),
        ("recipes.lr=1", r"unknown name 'recipes\.lr' in --set; did you mean 'recipe"),
        ("method.kd=1", r"unknown name 'method\.kd'"),
        ("kd.temperature=1", r"unknown name 'kd\.temperature'"),
        ("recipe.lr=[1", r"--set recipe\.lr=\[1, line \d"),
    ],
)
def test_wrong_set(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_selection(sets=[text])
    assert "\n" not in str(caught.value)


def test_values_with_commas_are_sweeps_and_reach_students() -> None:
    found = parse_selection(
        sets=[
            "recipe.lr=0.1,0.05",
            "student.recipe.epochs=3",
            "recipe.batch_size=32",
            "recipe.schedule.milestones=[1, 2]",
            "method.kd.temperature=1,2",
        ]
    )
    assert dict(found.students) == {"lr": (0.1, 0.05), "epochs": (3,)}
    assert dict(found.recipe) == {"batch_size": 32, "schedule.milestones": [1, 2]}
    assert dict(found.options) == {("kd", "temperature"): (1, 2)}
