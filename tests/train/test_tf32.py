"""What rounds fp32 products on a GPU is what the recipe says, whatever the process found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmark.planning.packs import group_key
from benchmark.table.recipe import override
from benchmark.train.start import prepare_process
from tests.helpers import digits_plan

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = cudnn.allow_tf32, matmul.allow_tf32
    assert before == (True, False), "torch's default, which the recipes' is"
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


@pytest.mark.parametrize(
    ("tf32", "expected"),
    [("convolutions", (True, False)), ("everywhere", (True, True)), ("nowhere", (False, False))],
)
def test_a_process_rounds_as_its_runs_say(
    digits: Path, tf32: str, expected: tuple[bool, bool]
) -> None:
    (run,) = digits_plan(digits, ["row=Student", "student=resnet8"]).runs
    cudnn.allow_tf32, matmul.allow_tf32 = not expected[0], not expected[1]
    rounding = run.model_copy(update={"recipe": override(run.recipe, {"tf32": tf32})})
    prepare_process(rounding)
    assert (cudnn.allow_tf32, matmul.allow_tf32) == expected
    alike = group_key(rounding, frozenset()) == group_key(run, frozenset())
    assert alike == (tf32 == "convolutions")
