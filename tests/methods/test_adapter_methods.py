"""Methods with adapters, class maps or memories: every pair, degenerate batches, precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods import (
    build_method,
    catkd,
    crd,
    ofd,
    projector,
    reviewkd,
    semckd,
    simkd,
    srrl,
)
from benchmark.methods.base import Probe, Setup
from benchmark.models.features import Features
from tests.methods.adapters import SMALL, Network, World, changed, features, noise
from tests.methods.fakes import CLASSES, PAIRS

METHODS = ("ofd", "reviewkd", "simkd", "catkd", "srrl", "semckd", "projector", "crd")
# Trained parameters as counted in the reference code, in the order of PAIRS; None where it stops.
# CRD's count there holds two memories of 50 x 128 and five settings.
EXTRA: dict[str, tuple[int | None, ...]] = {
    "ofd": (
        *(5600, 5600, 86912, 21952, 11200, 609024),
        *(None, None, None, None, 156800, None),
    ),
    "reviewkd": (
        *(114278, 114278, 1808774, 453830, 216006, 9847560),
        *(4607366, 2984646, 9640712, 27933192, 4195718, 28140040),
    ),
    "crd": (
        *(29445, 29445, 78597, 45829, 37637, 144133),
        *(168709, 152325, 242437, 439045, 176901, 340741),
    ),
}


def pair_cases() -> list[Any]:
    """Every method on every pair; the large ones (0.8 billion parameters of SemCKD's) are slow."""
    return [
        pytest.param(
            name,
            pair,
            id=f"{name}-{'-'.join(pair)}",
            marks=[pytest.mark.slow] if name == "semckd" or pair[0] == "resnet50" else [],
        )
        for name in METHODS
        for pair in PAIRS
    ]


@pytest.mark.parametrize(("name", "pair"), pair_cases())
def test_every_pair_trains(name: str, pair: tuple[str, str]) -> None:
    world = World(name, pair)
    found = world.gradients(features(pair[1], seed=1), features(pair[0], seed=2))
    assert all(tensor.isfinite().all() for tensor in found)
    assert any(tensor.any() for tensor in found[1:])
    reference = EXTRA[name][PAIRS.index(pair)] if name in EXTRA else None
    if reference is not None:
        counted = sum(p.numel() for p in world.method.parameters())
        assert counted == reference - (2 * 50 * 128 + 5 if name == "crd" else 0)


def first_of_batch(tensor: Tensor) -> Tensor:
    return tensor[:1]


def two_alike(tensor: Tensor) -> Tensor:
    return tensor[[0, 0, 1]]


def constant(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, 0.5)


def zero(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor)


UNDEFINED_FOR_ONE = ("reviewkd", "srrl", "projector")


@pytest.mark.parametrize("change", [first_of_batch, two_alike, constant, zero])
@pytest.mark.parametrize("name", METHODS)
def test_degenerate_batches(name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Where both networks, or the student alone, see such a batch: finite, or a clear error."""
    student, teacher = features(SMALL[1], 3, seed=1), features(SMALL[0], 3, seed=2)
    cases = [(changed(student, change), changed(teacher, change))]
    if change is not first_of_batch:
        cases.append((changed(student, change), teacher))
    for s, t in cases:
        world = World(name, SMALL, batch=len(s.logits))
        if change is first_of_batch and name in UNDEFINED_FOR_ONE:
            with pytest.raises(UserError, match=f"{name} normalises over the batch"):
                world.gradients(s, t)
            continue
        assert all(tensor.isfinite().all() for tensor in world.gradients(s, t))


@pytest.mark.parametrize("name", METHODS)
def test_bf16_autocast_is_finite(name: str) -> None:
    student, teacher = features(SMALL[1], 8, seed=1), features(SMALL[0], 8, seed=2)
    student, teacher = changed(student, Tensor.bfloat16), changed(teacher, Tensor.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = World(name, SMALL, batch=8).gradients(student, teacher)
    assert found[0].dtype == torch.float32
    assert all(tensor.isfinite().all() for tensor in found)


# Made outside: random numbers do not trace.
S = [noise(3, 4, 8, 8), noise(3, 6, 4, 4)]
T = [noise(3, 4, 8, 8, seed=1), noise(3, 6, 4, 4, seed=1)]
LARGE, WIDE = noise(3, 6, 8, 8), noise(3, 6, 8, 8)
VECTORS, OTHERS, MEMORY = noise(3, 4), noise(3, 4, seed=1), noise(9, 4)
MARGINS = [-noise(4).abs(), -noise(6).abs()]
ATTENTION = semckd.attention(noise(3, 1, 2), noise(3, 2, 2), 1.0)
CHOSEN, LOG_Z = torch.arange(9).view(3, 3), torch.tensor(3.0)


def logsum(student: Tensor) -> Tensor:
    student = projector.normalised(student, "batch", 1e-4)
    return projector.logsum_distance(student, VECTORS, 4.0, 0.0)


def correlation(student: Tensor) -> Tensor:
    student = projector.normalised(student, "l2", 1e-4)
    return projector.correlation_distance(student, VECTORS, 4.0, 1e-5)


def contrast(student: Tensor) -> Tensor:
    return crd.nce_loss(crd.similarities(crd.unit(student), MEMORY, CHOSEN, 0.07), LOG_Z, 9)


LOSSES: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "ofd": (lambda s: ofd.ofd_loss([s, S[1]], T, MARGINS), S[0]),
    "hcl": (lambda s: reviewkd.hcl_loss([s, S[1]], T), S[0]),
    "simkd": (lambda s: simkd.simkd_loss(s, LARGE), S[1]),
    "catkd": (lambda s: catkd.catkd_loss(s, WIDE, 2, True), S[1]),
    "srrl": (lambda s: srrl.srrl_loss(s, VECTORS, s, VECTORS), OTHERS),
    "semckd": (lambda s: semckd.semckd_loss([[s, s]], [[T[0], T[0]]], ATTENTION), S[0]),
    "semckd_gram": (lambda s: semckd.gram(s).sum(), S[0]),
    "projector_l2": (lambda s: projector.l2_distance(s, VECTORS), OTHERS),
    "projector_logsum": (logsum, OTHERS),
    "projector_correlation": (correlation, OTHERS),
    "crd": (contrast, OTHERS),
}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", LOSSES)
def test_losses_compile_without_breaks(name: str) -> None:
    loss, student = LOSSES[name]
    found = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        given = student.clone().requires_grad_()
        value = function(given)
        found.append((value, *torch.autograd.grad(value, given)))
    for eager, traced in zip(*found, strict=True):
        torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize("name", ["ofd", "reviewkd", "simkd", "catkd", "semckd"])
def test_transformers_are_refused_by_name(name: str) -> None:
    tokens = Features(
        torch.zeros(2, CLASSES), torch.zeros(2, 8), (torch.zeros(2, 5, 8),), (torch.zeros(2, 5, 8),)
    )
    setup = Setup(
        Probe("vit", Network("resnet20"), tokens),
        Probe("resnet56", Network("resnet56"), features("resnet56")),
        *(CLASSES, torch.arange(50) % CLASSES, 2, 10, 0),
    )
    with pytest.raises(UserError, match=rf"{name} needs .*vit"):
        build_method(name, setup)
