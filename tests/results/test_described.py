"""Which runs cannot be compared with what was published, and which merely differ."""

from __future__ import annotations

import pytest

from benchmark.results.assign import Group
from benchmark.results.described import is_apart
from benchmark.results.whose import TeacherFile


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        ("recipe.epochs", True),
        ("recipe.schedule.milestones", True),
        ("teacher.recipe.epochs", True),
        ("dataset.digest", True),
        ("teacher.file", True),
        ("teacher.key", True),
        ("recipe.device", False),
        ("recipe.threads", False),
        ("kd.options.temperature", False),
        ("versions.engine", False),
        ("kd.version", False),
    ],
)
def test_what_keeps_runs_from_being_compared(name: str, apart: bool) -> None:
    assert is_apart(Group(0, "cell", "", {name: (1, 2)}, ())) == apart


def test_a_file_of_ones_own_is_never_the_published_teacher() -> None:
    own = TeacherFile("cifar100", "resnet56", "0" * 64, own=True)
    assert is_apart(Group(0, "cell", "", {}, (), file=own))
    assert not is_apart(Group(0, "cell", "", {}, (), file=own._replace(own=False)))
