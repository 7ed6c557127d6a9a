from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.slurm.send import ArrayPlan, job_id, plan_arrays


class Item(NamedTuple):
    id: str
    depends: tuple[str, ...] = ()


def _pack(name: str, *depends: str) -> Item:
    return Item(name, depends)


def _ids(plan: ArrayPlan[Item]) -> list[str]:
    return [item.id for item in plan.items]


def test_students_wait_for_their_own_teacher_only() -> None:
    packs = [
        _pack("A"),
        _pack("B"),
        _pack("a1", "A"),
        _pack("x"),
        _pack("b1", "B"),
        _pack("a2", "A"),
    ]
    plans = plan_arrays(packs, size=100)
    assert [(_ids(p), p.after) for p in plans] == [
        (["A", "B", "x"], ()),
        (["a1", "a2"], ("A",)),
        (["b1"], ("B",)),
    ]


def test_a_teacher_that_has_a_teacher_is_sent_between_them() -> None:
    packs = [_pack("s", "T2"), _pack("T2", "T1"), _pack("T1")]
    assert [_ids(p) for p in plan_arrays(packs, 10)] == [["T1"], ["T2"], ["s"]]


def test_a_teacher_that_was_sent_earlier_is_waited_for_one_that_is_there_is_not() -> None:
    plans = plan_arrays([_pack("s", "queued"), _pack("u", "there")], 10, elsewhere=["queued"])
    assert [(_ids(p), p.after) for p in plans] == [(["u"], ()), (["s"], ("queued",))]


@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    independent=st.integers(0, 40),
    limit=st.integers(1, 17),
)
def test_no_more_arrays_than_promised(sizes: list[int], independent: int, limit: int) -> None:
    packs = [_pack(f"T{i}") for i in range(len(sizes))]
    packs += [_pack(f"x{i}") for i in range(independent)]
    packs += [_pack(f"s{i}-{j}", f"T{i}") for i, size in enumerate(sizes) for j in range(size)]
    plans = plan_arrays(packs, limit)
    assert sorted(name for plan in plans for name in _ids(plan)) == sorted(p.id for p in packs)
    assert all(0 < len(plan.items) <= limit for plan in plans)
    assert len(plans) <= math.ceil(len(packs) / limit) + len(sizes)
    sent: set[str] = set()
    for plan in plans:
        assert sent.issuperset(plan.after)
        sent.update(_ids(plan))


def test_packs_of_different_needs_share_no_array() -> None:
    packs = [_pack("a"), _pack("b1"), _pack("c", "a"), _pack("b2")]
    plans = plan_arrays(packs, 10, needs=lambda pack: pack.id[0] == "b")
    assert [_ids(p) for p in plans] == [["a"], ["b1", "b2"], ["c"]]


@pytest.mark.parametrize(
    ("said", "job"),
    [
        ("123\n", 123),
        ("123;cluster\n", 123),
        ("*** maintenance on 24.12. ***\n123\n", 123),
        ("Welcome\nSubmitted batch job 123 on cluster big\n", 123),
        ("123\nYour project has 12 hours left\n", 123),
        ("Your project has 12 hours left\n", None),
        # Numbers of a banner, before and after.
        ("1234;c\nCore hours left:\n500\n", 1234),
        ("Core hours left:\n500\nSubmitted batch job 1234\n", 1234),
        ("1234\nCore hours left:\n500\n", None),
        ("1234;c\n1235;c\n", None),
        ("1234\n1234\n", 1234),
        ("", None),
    ],
)
def test_the_number_of_a_job_is_read_wherever_it_stands(said: str, job: int | None) -> None:
    assert job_id(said) == job
