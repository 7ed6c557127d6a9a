"""A step moves each weight by its own gradient, in whatever order tensors lie in memory."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.base.errors import UserError
from benchmark.conformance.compare import copied
from benchmark.conformance.images import FewImages, digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.layouts import steps_alike
from benchmark.conformance.pairs import SMALL
from benchmark.methods.catalog import method_infos
from benchmark.planning.matrix import Context, make_plan
from benchmark.run.identity import MethodRef, Run
from benchmark.table.load import PACKAGED, load_table
from benchmark.table.recipe import named_recipe
from benchmark.table.selection import Selection
from benchmark.train.optimiser import build_optimizer, laid_out_like

BATCH = 8


@cache
def images() -> FewImages:
    # Enough samples of other classes for CRD to draw without replacement.
    return digit_images(BATCH, 8, BATCH, num_labels=20_000)


@cache
def labs(pair: int) -> tuple[Lab, Lab]:
    return Lab(SMALL[pair], images()), Lab(SMALL[pair], images(), channels_last=True)


def compositions() -> dict[str, Run]:
    """Return a run of each set of methods that a row of the tables composes, by its names."""
    found: dict[str, Run] = {}
    for file in sorted(PACKAGED.glob("*.yaml")):
        for slot in make_plan(load_table(file.stem), Selection(), Context(Path("-"), "cpu")).slots:
            runs = [run for variant in slot.variants for run in variant.runs]
            for run in (run for run in runs if len(run.methods) > 1):
                found.setdefault("+".join(method.name for method in run.methods), run)
    return found


COMPOSED = compositions()


def check(methods: list[MethodRef], **row: Any) -> None:
    # These are defined for equal channels alone.
    pair = int(any(method.name in ("fsp", "mhgd") for method in methods))
    ours, theirs = labs(pair)
    steps_alike(ours, theirs, ours.run(methods, **row))


@pytest.mark.parametrize("name", method_infos())
def test_methods(name: str) -> None:
    check([method_ref(name)])


@pytest.mark.parametrize("names", COMPOSED)
def test_compositions_of_the_tables(names: str) -> None:
    run = COMPOSED[names]
    check(list(run.methods), ce_weight=run.ce_weight, predict=run.predict)


# Found so: DHKD's rule, and a second method with 3x3 kernels of its own, which stay contiguous.
@pytest.mark.parametrize("name", ["reviewkd", "ft", "simkd", "semckd"])
def test_gradient_rules_beside_kernels_of_a_method(name: str) -> None:
    predict = "simkd" if name == "simkd" else None
    check([method_ref("dhkd"), method_ref(name)], ce_weight=1.0, predict=predict)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fused_steps_are_those_of_the_plain_optimiser(optimizer: str) -> None:
    recipe = named_recipe("digits_60").model_copy(update={"optimizer": optimizer})
    torch.manual_seed(0)
    weights, gradients = torch.randn(4, 3, 3, 3), torch.randn(2, 4, 3, 3, 3)
    parameters = [nn.Parameter(weights.clone()) for _ in range(2)]
    fused, plain = (build_optimizer(recipe, [parameter]) for parameter in parameters)
    for group in plain.param_groups:
        group.update(fused=False, foreach=False)
    for gradient in gradients:
        parameters[0].grad = gradient.contiguous(memory_format=torch.channels_last)
        parameters[1].grad = gradient.clone()
        # As a gradient rule may leave its own state.
        for name, value in fused.state[parameters[0]].items():
            if value.dim():
                moved = value.contiguous(memory_format=torch.channels_last)
                fused.state[parameters[0]][name] = moved
        fused.step()
        plain.step()
    torch.testing.assert_close(*parameters)
    kept = [value for value in fused.state[parameters[0]].values() if value.dim()]
    assert kept
    assert all(value.stride() == parameters[0].stride() for value in kept)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_loaded_state_is_laid_out_as_the_parameters_are(optimizer: str) -> None:
    recipe = named_recipe("digits_60").model_copy(update={"optimizer": optimizer})
    saved, own = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.empty(4, 3, 3, 3))
    own.data = saved.detach().contiguous(memory_format=torch.channels_last)
    first, second = build_optimizer(recipe, [saved]), build_optimizer(recipe, [own])
    saved.grad = torch.randn(4, 3, 3, 3)
    first.step()
    own.data.copy_(saved.data)
    second.load_state_dict(copied(first.state_dict()))
    for name, value in second.state[own].items():
        assert value.dim() == 0 or value.stride() == own.stride()
        assert torch.equal(value, first.state[saved][name])
    own.grad = saved.grad.contiguous(memory_format=torch.channels_last)
    first.step()
    second.step()
    torch.testing.assert_close(own, saved)


def test_what_lies_right_is_not_copied() -> None:
    parameter = nn.Parameter(torch.randn(4, 3, 3, 3))
    gradient = parameter.grad = torch.randn(4, 3, 3, 3)
    assert laid_out_like(parameter, gradient) is gradient
    build_optimizer(named_recipe("digits_60"), [parameter]).step()
    assert parameter.grad is gradient


@pytest.mark.parametrize("part", [torch.zeros(4, 4)[:, ::2], torch.zeros(1).expand(4)])
def test_parameters_with_gaps_are_refused(part: torch.Tensor) -> None:
    with pytest.raises(UserError, match="a part of a larger tensor, or repeats one"):
        build_optimizer(named_recipe("digits_60"), [nn.Parameter(part)])
