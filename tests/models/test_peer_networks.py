"""The networks of the online and self tables: sizes as published, the contract, initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmark.models import build_model
from tests.models.reference import filled, images

PEERS = ("resnet110_bottleneck", "wrn_20_8", "densenet40_12")
# DenseNet-BC-40-12 and ResNet-18: the counts that several public collections state.
PARAMETERS = {
    ("densenet40_12", 10): 176_122,
    ("densenet40_12", 100): 188_092,
    ("resnet18", 10): 11_173_962,
    ("resnet18", 100): 11_220_132,
}


def bottleneck_parameters(num_blocks: int, widening: int, num_classes: int) -> int:
    """Count by hand: convolutions, two numbers a channel of a batch norm, the classifier."""
    total = 3 * 16 * 9 + 2 * 16
    given = 16
    for width in (16, 32, 64):
        inner, out = width * widening, 4 * width
        for block in range(num_blocks):
            total += given * inner + inner * inner * 9 + inner * out + 2 * (2 * inner + out)
            total += (given * out + 2 * out) if block == 0 else 0
            given = out
    return total + (given + 1) * num_classes


@pytest.mark.parametrize(("name", "num_classes"), PARAMETERS)
def test_parameters_as_published(name: str, num_classes: int) -> None:
    with torch.device("meta"):
        network = build_model(name, num_classes)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name, num_classes]


def test_bottlenecks_are_counted_by_hand() -> None:
    with torch.device("meta"):
        deep, wide = (build_model(n, 100) for n in ("resnet110_bottleneck", "wrn_20_8"))
    count = sum(p.numel() for p in deep.parameters())
    assert count == bottleneck_parameters(12, 1, 100)
    assert round(count / 1e6, 2) == 1.17  # as the tables state it
    assert sum(p.numel() for p in wide.parameters()) == bottleneck_parameters(2, 8, 100)
    convolutions = [m for m in deep.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) - 3 + 1 == 110  # without the shortcuts, with the classifier


def test_densenet_has_forty_layers() -> None:
    with torch.device("meta"):
        network = build_model("densenet40_12", 100)
    assert len([m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]) == 40


@pytest.mark.parametrize("name", PEERS)
def test_features_fit_each_other(name: str) -> None:
    with torch.device("meta"):
        network = build_model(name, 10)
        features = network.features(torch.empty(2, 3, 32, 32))
    assert features.logits.shape == (2, 10)
    assert features.pooled.shape == (2, network.head.in_features)
    shapes = [stage.shape for stage in features.stages]
    assert [shape[-1] for shape in shapes] == [32, 32, 16, 8]
    assert [preact.shape for preact in features.preacts] == shapes
    widths = [bn.num_features for bn in network.batch_norms_before_relu()]
    assert widths == [shape[1] for shape in shapes[1:]]


@pytest.mark.parametrize("name", PEERS)
def test_pooled_is_what_the_head_reads(name: str) -> None:
    network = filled(name, num_classes=10)
    with torch.no_grad():
        features = network.features(images(2, 32))
        assert torch.equal(network.head(features.pooled), features.logits)
        assert network(images(3, 8)).shape == (3, 10)
    assert features.last_map is not None
    torch.testing.assert_close(features.last_map.mean((2, 3)), features.pooled)


@pytest.mark.parametrize("name", PEERS)
def test_gradients_reach_every_parameter_through_every_map(name: str) -> None:
    network = filled(name).train()
    features = network.features(images(4, 32))
    for stage, preact in zip(features.stages[1:], features.preacts[1:], strict=True):
        assert torch.equal(stage, preact.relu())
    maps = (*features.stages, *features.preacts, features.pooled, features.logits)
    torch.stack([x.square().mean() for x in maps]).sum().backward()  # type: ignore[no-untyped-call]
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_each_batch_norm_sees_a_batch_once() -> None:
    network = build_model("densenet40_12", 10).train()
    with torch.no_grad():
        network(images(4, 32))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_batches_tracked == 1


@pytest.mark.parametrize("name", PEERS)
def test_convolutions_are_drawn_as_published(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(name, 100)
    ratios = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            count = module.in_channels if name == "densenet40_12" else module.out_channels
            published = math.sqrt(2 / (module.kernel_size[0] ** 2 * count))
            ratios.append(module.weight.std().item() / published)
    assert 0.97 < sum(ratios) / len(ratios) < 1.03
