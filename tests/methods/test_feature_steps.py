"""Three SGD steps of attention transfer on a real pair follow the reference."""

from __future__ import annotations

import pytest
import torch

from tests.methods.golden import assert_close
from tests.methods.test_logits_steps import RTOL, expected, filled, make_method, train


@pytest.mark.slow
def test_at() -> None:
    student, teacher = filled("resnet8x4"), filled("resnet32x4").eval().requires_grad_(False)
    losses = train("at", make_method("at", student, teacher), student, teacher)
    assert_close(torch.tensor(losses).double(), expected("at", "loss_kd"), RTOL)
