"""timm's networks: their logits, their keys, one linear head, features."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.models import build_model
from tests.fill import fill_state
from tests.models.reference import images

NETWORKS = [
    "resnet10t",
    "skresnet18",
    "regnetx_002",
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_keys_are_those_of_timm(name: str) -> None:
    network = build_model(f"timm:{name}", 10).eval()
    import timm

    theirs = timm.create_model(name, num_classes=10).eval()
    assert list(network.state_dict()) == list(theirs.state_dict())
    fill_state(theirs)
    network.load_state_dict(theirs.state_dict())
    x = images(2, 224)
    with torch.no_grad():
        features = network.features(x)
        torch.testing.assert_close(features.logits, theirs(x))
        torch.testing.assert_close(network.head(features.pooled), features.logits)
        assert torch.equal(copy.deepcopy(network)(x), features.logits)
    assert len(features.stages) == len(features.preacts) == 5
    if features.last_map is not None:
        torch.testing.assert_close(features.last_map.mean((2, 3)), features.pooled)


@pytest.mark.parametrize(
    "name", ["resnet18", "regnety_002", "convnext_atto", "efficientnet_lite0", "test_vit"]
)
def test_the_check_of_the_logits_moves_no_weight_and_no_random_number(name: str) -> None:
    torch.manual_seed(0)
    ours = build_model(f"timm:{name}", 10).state_dict()
    drawn = torch.rand(1)
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=10).state_dict()
    assert torch.equal(torch.rand(1), drawn)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.slow
def test_the_smallest_swin_has_timms_logits() -> None:
    build_model("timm:swin_tiny_patch4_window7_224", 10)


@pytest.mark.parametrize("name", ["efficientvit_m0", "shvit_s1", "volo_d1_224"])
def test_heads_of_more_than_a_linear_layer_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"'timm:{name}' does more to its logits than one linear"):
        build_model(f"timm:{name}", 10)


def test_resnets_give_both_sides_of_the_last_relu() -> None:
    network = build_model("timm:resnet10t", 10).eval()
    fill_state(network)
    with torch.no_grad():
        features = network.features(images(2, 64))
    for stage, preact in zip(features.stages[1:], features.preacts[1:], strict=True):
        assert torch.equal(stage, preact.relu())
        assert preact.min() < 0
    widths = [bn.num_features for bn in network.batch_norms_before_relu()]
    assert widths == [preact.shape[1] for preact in features.preacts[2:]]


def test_transformers_give_tokens_after_each_quarter() -> None:
    network = build_model("timm:deit_tiny_patch16_224", 10).eval()
    fill_state(network)
    blocks: list[torch.Tensor] = []
    for block in network.network.blocks:
        block.register_forward_hook(lambda module, given, out: blocks.append(out))
    with torch.no_grad():
        features = network.features(images(1, 224))
    assert features.stages[0].shape == (1, 197, 192)
    wanted = [blocks[i] for i in (2, 5, 8, 11)]
    assert all(torch.equal(a, b) for a, b in zip(features.stages[1:], wanted, strict=True))


def test_building_the_joined_head_draws_no_random_numbers() -> None:
    network = build_model("timm:deit_tiny_distilled_patch16_224", 10)
    state = torch.get_rng_state()
    assert not network.head.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(UserError, match="does not end in one linear layer"):
        build_model("timm:levit_128s", 10)
    with pytest.raises(UserError, match="did you mean 'resnet50'"):
        build_model("timm:resnet5O", 10)
    network = build_model("timm:regnetx_002", 10)
    with pytest.raises(UserError, match="does not say which batch norms"):
        network.batch_norms_before_relu()
