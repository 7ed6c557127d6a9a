"""Compiled, channels-last and mixed-precision runs agree with the plain one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from benchmark.models.features import Model
from benchmark.models.mobilenetv2 import MobileNetV2
from tests.models.reference import FAMILIES, error, filled, images

pytestmark = pytest.mark.usefixtures("fresh_compiler")


def shortened(network: Model) -> Model:
    """Keep two blocks of the first stage and one of the others: more compile alike, slowly."""
    for name in ("layer2", "layer3", "layer4"):
        if hasattr(network, name):
            setattr(network, name, getattr(network, name)[:1])
    if hasattr(network, "layer1"):
        network.layer1 = network.layer1[:2]
    if isinstance(network, MobileNetV2):
        kept = (group[: 2 if i == 1 else 1] for i, group in enumerate(network.blocks))
        network.blocks = nn.ModuleList(kept)
    return network


def check_compiled(name: str, backend: str) -> None:
    """Features of a train-mode step and what it does to the buffers, compiled whole.

    In double precision: batch norms over maps of 2x2 pixels magnify rounding.
    """
    plain, x = shortened(filled(name)).double().train(), images(2, 32).double()
    compiled = copy.deepcopy(plain)
    wanted = plain.features(x)
    given = torch.compile(compiled.features, fullgraph=True, backend=backend)(x)
    assert error(given.logits, wanted.logits.detach()) < 1e-9
    for ours, theirs in zip(
        (*given.stages, *given.preacts), (*wanted.stages, *wanted.preacts), strict=True
    ):
        assert error(ours, theirs.detach()) < 1e-9
    for key, value in plain.named_buffers():
        torch.testing.assert_close(compiled.get_buffer(key), value)
    given.logits.square().mean().backward()
    assert all(p.grad is not None for p in compiled.head.parameters())


@pytest.mark.slow
def test_compiles_without_a_break() -> None:
    check_compiled("resnet8", "aot_eager")


# torch's own import of its compiler warns.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_compiles_with_inductor(name: str) -> None:
    check_compiled(name, "inductor")


@pytest.mark.parametrize("name", [*FAMILIES, "resnet50"])
def test_channels_last_gives_equal_features(name: str) -> None:
    network, x = filled(name), images(2, 32)
    with torch.no_grad():
        wanted = network.features(x)
        network.to(memory_format=torch.channels_last)
        given = network.features(x.contiguous(memory_format=torch.channels_last))
    pairs = [(given.logits, wanted.logits), (given.pooled, wanted.pooled)]
    pairs += zip(given.stages, wanted.stages, strict=True)
    pairs += zip(given.preacts, wanted.preacts, strict=True)
    for ours, theirs in pairs:
        assert error(ours, theirs) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_autocast_stays_close(name: str) -> None:
    network, x = filled(name), images(2, 32)
    with torch.no_grad():
        wanted = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            given = network(x)
    assert error(given.float(), wanted) < 0.1
