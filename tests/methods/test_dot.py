"""DOT: the reference's two-momentum steps, single gradients, resume, what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods.dot import two_momentum_step
from tests.fill import rnd
from tests.methods import golden
from tests.methods.tiny import make_method, make_model

GOLDEN = ("dot",)

SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


def gradients(w: Tensor, v: Tensor, x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    y = x @ w.T + v
    task = torch.autograd.grad((y - 1).square().mean(), (w, v), retain_graph=True)
    return task, torch.autograd.grad(y.sin().square().sum(), (w, v))


@pytest.mark.parametrize("resume_after", [None, 2])
def test_three_steps_are_the_references(resume_after: int | None) -> None:
    arrays = golden.case("dot")
    # The archive's in/w and in/v hold the state after the third step; these are the starts.
    w = nn.Parameter(torch.from_numpy(rnd(2400, (4, 3))))
    v = nn.Parameter(torch.from_numpy(rnd(2401, (4,))))
    method = make_method("dot", make_model(0), make_model(1))
    optimizer = torch.optim.SGD([w, v], **SGD)
    for step in (1, 2, 3):
        task, own = gradients(w, v, arrays["in/X"])
        method.update(optimizer, [w, v], task, own)
        golden.assert_close(w, arrays[f"out/w_step{step}"], what=f"w after step {step}")
        golden.assert_close(v, arrays[f"out/v_step{step}"], what=f"v after step {step}")
        if step == resume_after:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = torch.optim.SGD([w, v], **SGD)
            optimizer.load_state_dict(saved)


def test_the_first_step_has_one_move_per_gradient() -> None:
    options = {"lr": 0.1, "momentum": 0.9, "delta": 0.05, "weight_decay": 0.5}
    start = torch.tensor([1.0, -2.0])
    task, own = torch.tensor([0.3, 0.1]), torch.tensor([-0.2, 0.4])
    expected = {
        "both": start - 0.1 * (task + 0.5 * start + own),
        "task": start - 0.1 * (task + 0.5 * start),
        "own": start - 0.1 * own,
    }
    for which, after in expected.items():
        parameter, state = start.clone(), {}
        given = (task if which != "own" else None, own if which != "task" else None)
        two_momentum_step(parameter, state, *given, **options)
        torch.testing.assert_close(parameter, after)


def test_a_single_gradient_keeps_the_mean_momentum() -> None:
    options = {"lr": 0.1, "momentum": 0.9, "delta": 0.05, "weight_decay": 0.5}
    task = torch.tensor([0.3, 0.1])
    plain = nn.Parameter(torch.tensor([1.0, -2.0]))
    sgd = torch.optim.SGD([plain], lr=0.1, momentum=0.9, weight_decay=0.5)
    ours, state = plain.detach().clone(), {}
    for _ in range(3):
        plain.grad = task.clone()
        sgd.step()
        two_momentum_step(ours, state, task, None, **options)
    torch.testing.assert_close(ours, plain.detach())


@pytest.mark.parametrize(
    ("optimizer", "delta", "message"),
    [
        (lambda p: torch.optim.AdamW(p), 0.075, "optimizer sgd"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), 0.075, "nesterov"),
        (lambda p: torch.optim.SGD(p, lr=0.1), 0.075, "momentum 0"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 0.1, "delta 0.1"),
    ],
)
def test_refuses_what_it_is_not_defined_for(
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer], delta: float, message: str
) -> None:
    parameter = nn.Parameter(torch.ones(2))
    method = make_method("dot", make_model(0), make_model(1), delta=delta)
    ones = [torch.ones(2)]
    with pytest.raises(UserError, match=message):
        method.update(optimizer([parameter]), [parameter], ones, ones)
