"""Three SGD steps of a real pair with the reference's weights follow the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods import build_method
from benchmark.methods.base import Method, Probe, Setup, Step
from benchmark.models import build_model
from benchmark.models.features import Model
from tests.fill import fill_state, fill_value
from tests.methods.golden import assert_close

STEPS = np.load(Path(__file__).parents[1] / "golden" / "golden_steps.npz", allow_pickle=False)
RTOL = 1e-7
LABELS = (37 * torch.arange(8) + 5) % 100


def images(step: int) -> Tensor:
    """Return the reference's batch [8, 3, 32, 32], float64."""
    index = torch.arange(8 * 3 * 32 * 32, dtype=torch.float64).view(8, 3, 32, 32)
    sample = torch.arange(8, dtype=torch.float64).view(8, 1, 1, 1)
    return torch.sin(0.01 * index + 0.7 * step + 0.3 * sample)


def filled(name: str) -> Model:
    model = build_model(name, 100)
    fill_state(model)
    return model.double()


def expected(run: str, key: str) -> Tensor:
    return torch.from_numpy(STEPS[f"{run}/{key}"])


def make_step(student: Model, teacher: Model, batch: Tensor) -> Step:
    with torch.no_grad():
        teacher_features = teacher.features(batch)
    return Step(
        batch, LABELS, torch.arange(8), student.features(batch), teacher_features, 1,
        student.head, teacher.head,
    )  # fmt: skip


def make_method(name: str, student: Model, teacher: Model, **options: Any) -> Method[Any]:
    with torch.no_grad():
        probes = [
            Probe("resnet", model.eval(), model.features(images(0)[:2]))
            for model in (student, teacher)
        ]
    setup = Setup(probes[0], probes[1], 100, LABELS, batch_size=8, epochs=240, seed=0)
    return build_method(name, setup, **options).double()


def train(run: str, method: Method[Any] | None, student: Model, teacher: Model) -> list[float]:
    """Take three steps, hold the logits before each; return the method's losses."""
    parameters = [*student.parameters(), *(method.parameters() if method else [])]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    student.train()
    losses = []
    prefix = "head1" if run == "dhkd_linear" else "logits"
    for number in range(3):
        step = make_step(student, teacher, images(number))
        assert_close(step.student.logits, expected(run, f"{prefix}_step{number}"), RTOL)
        loss = F.cross_entropy(step.student.logits, LABELS)
        if method is not None:
            own = method.loss(step)
            assert isinstance(own, Tensor)
            losses.append(own.item())
            loss = method.ce_weight * loss + own
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    sums = torch.stack([p.detach().sum() for p in parameters])
    squares = torch.stack([p.detach().square().sum() for p in parameters])
    assert_close(sums, expected(run, "student_param_sums"), RTOL, "sums of parameters")
    assert_close(squares, expected(run, "student_param_sumsq"), RTOL, "squares of parameters")
    with torch.no_grad():
        after = student.eval()(images(9))
    assert_close(after, expected(run, "eval_logits_after"), RTOL, "logits after three steps")
    return losses


@pytest.fixture(scope="module")
def teacher() -> Model:
    return filled("resnet32x4").eval().requires_grad_(False)


@pytest.mark.slow
def test_vanilla(teacher: Model) -> None:
    train("vanilla", None, filled("resnet8x4"), teacher)


def test_kd(teacher: Model) -> None:
    student = filled("resnet8x4")
    losses = train("kd", make_method("kd", student, teacher), student, teacher)
    assert_close(torch.tensor(losses).double(), expected("kd", "loss_kd"), RTOL)


@pytest.mark.slow
def test_dhkd_with_a_linear_head(teacher: Model) -> None:
    student = filled("resnet8x4")
    method = make_method("dhkd", student, teacher, head="linear", gradient_alignment=False)
    # In the reference the second head is the last part of the student's own state dict.
    assert isinstance(method.head, nn.Linear)
    start = len(student.state_dict())
    with torch.no_grad():
        for k, (key, parameter) in enumerate(method.head.named_parameters(), start):
            value = fill_value(k, key, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(value).float())
    losses = train("dhkd_linear", method, student, teacher)
    assert_close(torch.tensor(losses).double(), expected("dhkd_linear", "kd"), RTOL)
