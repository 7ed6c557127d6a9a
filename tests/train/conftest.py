"""What several tests of training start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.run.identity import Run
from tests.helpers import SHORT, digits_plan

STUDENT = ["row=Student", "student=resnet8"]


@pytest.fixture(scope="module")
def runs(digits: Path) -> tuple[Run, Run]:
    """Two runs that share a pack."""
    found = [digits_plan(digits, STUDENT, sets=[*SHORT, s]).runs[0] for s in ("recipe.lr=0.1",)]
    (other,) = digits_plan(digits, STUDENT).runs
    return found[0], other
