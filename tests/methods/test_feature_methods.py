"""Feature methods on every pair of the tables, degenerate batches, compilers and precisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods import ab, at, cc, fitnet, fsp, ft, kdsvd, nst, pkt, rkd, sp, vid
from benchmark.methods.base import Method
from benchmark.models.features import Features
from tests.methods.fakes import (
    PAIRS,
    SHAPES,
    FakeModel,
    fake_features,
    leaves,
    make_method,
    make_step,
    map_features,
    tensors,
    total,
)

METHODS = ("fitnet", "at", "sp", "pkt", "rkd", "vid", "nst", "ft", "ab", "fsp", "kdsvd", "cc")
SMALL = ("resnet56", "resnet20")
# Trained parameters as counted in the reference code, in the order of PAIRS.
EXTRA = {
    "fitnet": (
        *(1120, 1120, 16768, 4288, 2240, 66304),
        *(983424, 491712, 4864, 132608, 475520, 2098688),
    ),
    "vid": (
        *(16128, 16128, 258048, 64512, 53760, 1818624),
        *(494592, 204288, 1324544, 11529216, 327936, 12877824),
    ),
}
# With ResNet-50's 2048 channels (a paraphraser of 150 M parameters) they are slow.
EVERY = [
    pytest.param(name, pair, id=f"{name}-{pair[0]}-{pair[1]}", marks=marks)
    for name in METHODS
    for pair in PAIRS
    for marks in [[pytest.mark.slow] if pair[0] == "resnet50" else []]
]


def built(name: str, pair: tuple[str, str]) -> Method[Any]:
    """Return the method in training, its first stage's parts made trainable."""
    method = make_method(name, *pair)
    if method.prepare_epochs:
        method.prepare_parameters(FakeModel(SHAPES[pair[1]][1]))
    return method.train()


def loss_of(method: Method[Any], student: Features, teacher: Features) -> Tensor:
    """Return the sum of a method's first and main stage on one batch."""
    step = make_step(student, teacher)
    main = total(method.loss(step))
    return main + method.prepare_loss(step) if method.prepare_epochs else main


def gradients(method: Method[Any], student: Features, teacher: Features) -> list[Tensor]:
    """Return the loss and its gradients to the student's features and to the adapters."""
    student = leaves(student)
    loss = loss_of(method, student, teacher)
    loss.backward()  # type: ignore[no-untyped-call]
    reached = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
    assert reached, "no gradient to the student"
    for key, parameter in method.named_parameters():
        assert parameter.grad is not None, f"no gradient to {key}"
        reached.append(parameter.grad)
    return [loss.detach(), *reached]


@pytest.mark.parametrize(("name", "pair"), EVERY)
def test_every_pair_trains(name: str, pair: tuple[str, str]) -> None:
    channels = [[c for c, _ in SHAPES[network][0]] for network in pair]
    if name == "fsp" and channels[0] != channels[1]:
        with pytest.raises(UserError, match=rf"{pair[1]} has \d+, .* and {pair[0]} \d+, "):
            make_method(name, *pair)
        return
    method = built(name, pair)
    found = gradients(method, fake_features(pair[1], 3, seed=1), fake_features(pair[0], 3, seed=2))
    assert all(tensor.isfinite().all() for tensor in found)
    assert found[0] > 0
    assert any(tensor.any() for tensor in found[1:])
    if name in EXTRA:
        sizes = {key: p.numel() for key, p in method.named_parameters() if "log_scale" not in key}
        assert sum(sizes.values()) == EXTRA[name][PAIRS.index(pair)]


def first_of_batch(tensor: Tensor) -> Tensor:
    return tensor[:1]


def two_alike(tensor: Tensor) -> Tensor:
    return tensor[[0, 0, 1]]


def constant(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, 0.5)


def zero(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor)


@pytest.mark.parametrize("change", [first_of_batch, two_alike, constant, zero])
@pytest.mark.parametrize("name", METHODS)
def test_degenerate_batches(name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Where both networks, or the student alone, see such a batch: finite, and not enormous."""
    student, teacher = fake_features(SMALL[1], 3, seed=1), fake_features(SMALL[0], 3, seed=2)
    cases = [(map_features(student, change), map_features(teacher, change))]
    if change is not first_of_batch:
        cases.append((map_features(student, change), teacher))
    for s, t in cases:
        for tensor in gradients(built(name, SMALL), s, t):
            assert tensor.isfinite().all()
            assert tensor.abs().max() < 1e9


@pytest.mark.parametrize("name", METHODS)
def test_bf16_autocast_is_finite(name: str) -> None:
    student, teacher = fake_features(SMALL[1], 8, seed=1), fake_features(SMALL[0], 8, seed=2)
    student, teacher = (
        map_features(student, Tensor.bfloat16),
        map_features(teacher, Tensor.bfloat16),
    )
    method = built(name, SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(method, student, teacher)
    assert found[0].dtype == torch.float32
    assert all(tensor.isfinite().all() for tensor in found)


# Shapes of a student's and a teacher's three stages, small enough to trace quickly.
STAGES = (((4, 8), (6, 4), (8, 2)), ((6, 4), (6, 4), (5, 4)))
ALIKE = (((4, 8), (6, 4), (8, 2)), ((4, 8), (6, 4), (8, 2)))


def stages(shapes: tuple[tuple[int, int], ...], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, c, side, side, generator=generator) for c, side in shapes]


def pooled(width: int, seed: int) -> Tensor:
    return torch.randn(3, width, generator=torch.Generator().manual_seed(seed))


LOSSES: dict[str, tuple[Callable[..., Tensor], Any, Any]] = {
    "hint": (fitnet.hint_loss, pooled(4, 0), pooled(4, 1)),
    "at": (at.at_loss, stages(STAGES[0], 0), stages(STAGES[1], 1)),
    "sp": (sp.sp_loss, stages(STAGES[0], 0)[-1], stages(STAGES[1], 1)[-1]),
    "pkt": (pkt.pkt_loss, pooled(4, 0), pooled(6, 1)),
    "rkd_distance": (rkd.distance_loss, pooled(4, 0), pooled(6, 1)),
    "rkd_angle": (rkd.angle_loss, pooled(4, 0), pooled(6, 1)),
    "vid": (
        lambda mean, teacher: vid.vid_loss(mean, torch.zeros(4), teacher),
        stages(ALIKE[0], 0)[0],
        stages(ALIKE[1], 1)[0],
    ),
    "nst": (nst.nst_loss, stages(STAGES[0], 0), stages(STAGES[1], 1)),
    "ft": (ft.ft_loss, stages(ALIKE[0], 0)[0], stages(ALIKE[1], 1)[0]),
    "ft_first_stage": (ft.reconstruction_loss, pooled(4, 0), pooled(4, 1)),
    "ab": (ab.ab_loss, stages(ALIKE[0], 0), stages(ALIKE[1], 1)),
    "fsp": (fsp.fsp_loss, stages(ALIKE[0], 0), stages(ALIKE[1], 1)),
    "kdsvd": (kdsvd.kdsvd_loss, stages(STAGES[0][:2], 0), stages(STAGES[1][:2], 1)),
    "cc": (cc.cc_loss, pooled(4, 0), pooled(4, 1)),
}


# torch itself uses what it deprecates when inductor starts.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", LOSSES)
def test_losses_compile_without_breaks(name: str, backend: str) -> None:
    loss, student, teacher = LOSSES[name]
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    found = []
    for function in (loss, compiled):
        given = student if isinstance(student, list) else [student]
        given = [tensor.clone().requires_grad_() for tensor in given]
        value = function(given if isinstance(student, list) else given[0], teacher)
        found.append([value, *torch.autograd.grad(value, given, allow_unused=True)])
    for eager, traced in zip(*found, strict=True):
        torch.testing.assert_close(traced, eager)
