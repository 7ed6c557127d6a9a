"""Networks cut after a stage: the trunk and what follows it are the network, to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.models.features import Features, Model
from benchmark.models.parts import Frozen, Tail

CUT = ("resnet8", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2", "resnet18")


def network(name: str) -> Model:
    torch.manual_seed(0)
    return build_model(name, 10)


def images() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def stages(name: str) -> list[tuple[str, int]]:
    return [(name, number) for number in range(network(name).num_stages)]


@pytest.mark.parametrize(("name", "number"), [case for name in CUT for case in stages(name)])
def test_trunk_and_tail_make_the_network(name: str, number: int) -> None:
    whole, cut = network(name), network(name)
    expected = whole.features(images())
    found = cut.after(number, cut.trunk(number, images()))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.pooled, expected.pooled)
    for ours, theirs in zip(found.stages, expected.stages[number:], strict=True):
        assert torch.equal(ours, theirs)
    # A pre-activation that the tail cannot know is the map itself.
    for ours, theirs in zip(found.preacts[1:], expected.preacts[number + 1 :], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("name", "number"), [case for name in CUT for case in stages(name)])
def test_a_tail_holds_what_follows_and_nothing_else(name: str, number: int) -> None:
    whole = network(name).eval()
    with torch.no_grad():
        map_ = whole.trunk(number, images())
        expected = whole.after(number, map_)
    tail = Tail(copy.deepcopy(whole), number, map_).eval()
    with torch.no_grad():
        found: Features = tail.features(map_)
    assert torch.equal(found.logits, expected.logits)
    total = tail.train().features(map_).logits.square().sum()
    for preact in tail.features(map_).preacts:  # a batch norm may lead to these alone
        total = total + preact.square().sum()
    gradients = torch.autograd.grad(total, list(tail.parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in gradients)
    assert sum(p.numel() for p in tail.parameters()) < sum(p.numel() for p in whole.parameters())
    assert tail.head is tail.network.head


def test_a_network_is_cut_where_it_has_stages() -> None:
    net = network("resnet8")
    map_ = torch.zeros(2, 64, 8, 8)
    with pytest.raises(UserError, match=r"has 3 stages, .* after 0 \(its stem\) to 2, not after 3"):
        Tail(net, 3, map_)
    with pytest.raises(UserError, match="cannot be cut"):
        build_model("timm:resnet18", 10).trunk(1, images())


def test_a_frozen_copy_stays_as_it_is() -> None:
    net = network("resnet8")
    kept = Frozen(net)
    before = kept.features(images()).logits
    torch.nn.ModuleList([kept]).train()
    net.train().features(images())
    assert torch.equal(kept.features(images()).logits, before)
    assert not any(p.requires_grad for p in kept.parameters())
    kept.renew(net)
    assert torch.equal(kept.features(images()).logits, net.eval().features(images()).logits)
