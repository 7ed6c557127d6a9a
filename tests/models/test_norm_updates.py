"""How often a step wide ResNets move the statistics of the batch norms after their stages."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from benchmark.models import build_model, model_infos
from benchmark.models.wide_resnet import WideResNet

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trained_once(updates: Literal["twice", "once"]) -> WideResNet:
    torch.manual_seed(0)
    network = build_model("wrn_16_1", 10, norm_updates=updates)
    assert isinstance(network, WideResNet)
    features = network.train().features(IMAGES)
    sum(map(torch.sum, (features.logits, *features.preacts[1:])), torch.tensor(0.0)).backward()
    return network


def test_only_statistics_differ_and_by_a_second_step_of_momentum() -> None:
    once, twice = trained_once("once"), trained_once("twice")
    moved = {id(norm) for norm in once.batch_norms_before_relu()}
    pairs = zip(once.modules(), twice.modules(), strict=True)
    for ours, theirs in pairs:
        if not isinstance(ours, nn.BatchNorm2d):
            continue
        assert isinstance(theirs, nn.BatchNorm2d)
        mean, other = ours.running_mean, theirs.running_mean
        assert mean is not None
        assert other is not None
        if id(ours) in moved:  # 1 - 0.9 of the batch's mean, and 1 - 0.9 ** 2
            torch.testing.assert_close(other, mean * 1.9)
        else:
            assert torch.equal(other, mean)
    for ours, theirs in zip(once.parameters(), twice.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", [True, False])
def test_features_are_the_same(mode: bool) -> None:
    torch.manual_seed(0)
    once = build_model("wrn_16_1", 10, norm_updates="once").train(mode)
    torch.manual_seed(0)
    twice = build_model("wrn_16_1", 10).train(mode)
    with torch.no_grad():
        ours, theirs = once.features(IMAGES), twice.features(IMAGES)
    assert torch.equal(ours.logits, theirs.logits)
    for one, two in zip(ours.preacts, theirs.preacts, strict=True):
        torch.testing.assert_close(one, two)


def test_which_networks_ask() -> None:
    asking = {name for name, info in model_infos().items() if "norm_updates" in info.takes}
    assert asking == {"wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"}
    build_model("resnet8", 10, norm_updates="once")  # means nothing to it
