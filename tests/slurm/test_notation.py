from __future__ import annotations

import math

import pytest

from benchmark.base.errors import UserError
from benchmark.slurm.notation import IndexSet, gpu_count, gpu_type, megabytes, minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60", 60),
        ("1:30", 1.5),
        ("02:00:00", 120),
        ("1-0", 1440),
        ("2-12", 3600),
        ("1-00:30", 1470),
        ("7-00:00:30", 10080.5),
        ("UNLIMITED", math.inf),
        ("infinite", math.inf),
    ],
)
def test_minutes_takes_every_spelling_of_sbatch(text: str, expected: float) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "1h", "-5", "1:2:3:4", "1-", "a:b"])
def test_minutes_refuses_what_sbatch_would(text: str) -> None:
    with pytest.raises(ValueError, match="not a time limit"):
        minutes(text)


def test_amounts_of_memory_and_gpus() -> None:
    assert [megabytes(t) for t in ("4000", "4000M", "4G", "512K", "1T", "4GB")] == [
        4000, 4000, 4096, 0.5, 1024**2, 4096,
    ]  # fmt: skip
    assert megabytes("0") == math.inf  # the whole node
    assert [gpu_count(t) for t in ("0", "2", "a100", "a100:4")] == [0, 2, 1, 4]
    assert [gpu_type(t) for t in ("2", "a100", "a100:4")] == [None, "a100", "a100"]
    parts = ("1g.5gb:1", "3g.39gb:2", "1g.5gb", "1080ti:4", "nvidia_a100_3g.39gb:1")
    assert [gpu_count(t) for t in parts] == [1, 2, 1, 4, 1]
    assert [gpu_type(t) for t in parts[:2]] == ["1g.5gb", "3g.39gb"]
    bad_gpus = ("-1", "a100:", "2:1", ":1", "a100:b", "1 2")
    for function, bad in ((megabytes, "4Q"), *((gpu_count, text) for text in bad_gpus)):
        with pytest.raises(ValueError, match="as sbatch does"):
            function(bad)


def test_index_sets_stay_ranges() -> None:
    tasks = IndexSet.parse("0-9999%2")
    assert len(tasks) == 10_000
    assert len(tasks.ranges) == 1
    assert 9_999 in tasks
    assert 10_000 not in tasks
    holed = IndexSet.parse("7,1,3-4,10-20:5")
    assert list(holed) == [1, 3, 4, 7, 10, 15, 20]
    assert [n in holed for n in (3, 5, 15, 16)] == [True, False, True, False]
    assert str(IndexSet.of([5, 1, 2, 3, 9])) == "1-3,5,9"


def test_index_sets_that_slurm_cut_short_are_refused() -> None:
    with pytest.raises(UserError, match="not a list of array tasks"):
        IndexSet.parse("1,3,5,7...")
