"""The schedule of packs: known by hand in small cases, bounded in all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.planning.simulate import Machine, Schedule, SimulatedPack, simulate


def free(slots: int, **rest: float) -> Machine:
    """A machine whose starts cost nothing."""
    return Machine(slots, start_hours=0.0, **rest)


def test_students_wait_for_their_own_teacher_only() -> None:
    tasks = [
        SimulatedPack("t1", 1.0),
        SimulatedPack("t2", 4.0),
        SimulatedPack("a", 2.0, ("t1",)),
        SimulatedPack("b", 2.0, ("t2",)),
    ]
    assert simulate(tasks, free(2)) == Schedule(6.0, 9.0, 4)
    assert simulate(tasks, free(1)) == Schedule(9.0, 9.0, 4)


def test_a_teacher_that_is_there_is_not_waited_for() -> None:
    assert simulate([SimulatedPack("a", 2.0, ("trained before",))], free(1)).makespan_hours == 2.0


def test_a_pack_longer_than_the_limit_goes_back_to_the_end_of_the_queue() -> None:
    # a: 0-2, 3-5, 5-6; b: 2-3. Every start costs half an hour more.
    tasks = [SimulatedPack("a", 5.0), SimulatedPack("b", 1.0)]
    assert simulate(tasks, free(1, limit_hours=2.0)) == Schedule(6.0, 6.0, 4)
    slow = Machine(1, limit_hours=2.5, start_hours=0.5)
    assert simulate(tasks, slow) == Schedule(8.0, 8.0, 4)


def test_preemptions_cut_as_a_limit_does() -> None:
    assert simulate([SimulatedPack("a", 5.0)], free(1, preemptions_per_hour=0.5)).starts == 3


@pytest.mark.parametrize(
    ("tasks", "machine"),
    [
        ([SimulatedPack("a", 1.0)], Machine(1, limit_hours=0.1, start_hours=0.2)),
        ([SimulatedPack("a", 1.0, ("b",)), SimulatedPack("b", 1.0, ("a",))], free(1)),
    ],
)
def test_what_never_ends_is_refused(tasks: list[SimulatedPack], machine: Machine) -> None:
    with pytest.raises(ValueError, match=r"no time|wait for each other"):
        simulate(tasks, machine)


@given(
    hours=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    slots=st.integers(1, 8),
)
def test_makespan_keeps_grahams_bounds(hours: list[int], slots: int) -> None:
    tasks = [SimulatedPack(str(i), float(h)) for i, h in enumerate(hours)]
    found = simulate(tasks, free(slots))
    lower = max(max(hours), sum(hours) / slots)
    assert found.slot_hours == sum(hours)
    assert lower <= found.makespan_hours <= sum(hours) / slots + max(hours)
