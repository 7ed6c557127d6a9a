"""``bench plan --simulate``: as the profile says where runs lie and what they run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.planning.matrix import Context, make_plan
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from tests.cli.command import bench
from tests.planning.test_pack_size import finish


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        (0, ("3 CPU-hours", "from runs of these networks that were measured here")),
        (1, ("GPU-hours", "nothing like it was trained here yet: counted operations")),
    ],
)
def test_a_profile_says_what_was_measured(
    gpus: int, words: tuple[str, ...], tmp_path: Path, digits: Path
) -> None:
    chosen = parse_selection(["row=Student", "student=resnet8"], "0", [])
    (run,) = make_plan(load_table("digits"), chosen, Context(digits, "cpu")).runs
    finish(tmp_path / "runs", run, own_seconds=3600.0, packed=1, peak_mb=500, teacher_seconds=None)
    profile = tmp_path / "mine.yaml"
    profile.write_text(f"gpus: {gpus}\narray-parallelism: 1\nruns: {tmp_path / 'runs'}\n")
    only = ["--only", "row=Student", "--only", "student=resnet8", "--seeds", "1-3"]
    table = ["plan", "--table", "digits", *only, "--data", digits]
    said = bench(*table, "--simulate", profile, "--start-seconds", "0")
    assert said.code == 0, said.err
    for word in words:
        assert word in said.out
