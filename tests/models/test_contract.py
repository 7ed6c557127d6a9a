"""What methods rely on in every network: heads, pooling, batch norms, initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.models.features import DroppedError
from tests.models.reference import CIFAR, FAMILIES, filled, images

RELU_ENDED = ("resnet8", "resnet18", "vgg8", "shufflenetv1")


@pytest.mark.parametrize("name", CIFAR)
def test_shapes_fit_each_other(name: str) -> None:
    with torch.device("meta"):
        network = build_model(name, 10)
        features = network.features(torch.empty(2, 3, 32, 32))
    assert features.logits.shape == (2, network.head.out_features) == (2, 10)
    assert features.pooled.shape == (2, network.head.in_features)
    assert features.last_map is not None
    assert features.last_map.shape[:2] == features.pooled.shape
    shapes = [stage.shape for stage in features.stages]
    assert [preact.shape for preact in features.preacts] == shapes
    widths = [bn.num_features for bn in network.batch_norms_before_relu()]
    assert widths == [shape[1] for shape in shapes[1:]]


@pytest.mark.parametrize("name", [*FAMILIES, "resnet50"])
def test_pooled_is_the_mean_that_the_head_reads(name: str) -> None:
    network = filled(name, num_classes=10)
    with torch.no_grad():
        features = network.features(images(2, 32))
        assert torch.equal(network(images(2, 32)), features.logits)
        assert torch.equal(network.head(features.pooled), features.logits)
    assert features.last_map is not None
    torch.testing.assert_close(features.last_map.mean((2, 3)), features.pooled)


@pytest.mark.parametrize("name", FAMILIES)
def test_images_of_8_pixels(name: str) -> None:
    network = build_model(name, 10).eval()
    with torch.no_grad():
        assert network(images(3, 8)).shape == (3, 10)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_parameter_through_every_map(name: str) -> None:
    """An in-place activation after a returned map would raise here or change the map."""
    network = filled(name).train()
    features = network.features(images(4, 32))
    if name in RELU_ENDED:
        for stage, preact in zip(features.stages[1:], features.preacts[1:], strict=True):
            assert torch.equal(stage, preact.relu())
            assert preact.min() < 0
    maps = (*features.stages, *features.preacts, features.pooled, features.logits)
    sum(x.square().mean() for x in maps).backward()  # type: ignore[union-attr]
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_wide_resnets_update_three_batch_norms_twice() -> None:
    """In forward() too, with momentum applied twice to the same batch statistics."""
    network = build_model("wrn_16_2", 10).train()
    with torch.no_grad():
        network(images(4, 32))
    twice = network.batch_norms_before_relu()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_batches_tracked == (2 if module in twice else 1)
    before = network.bn1.running_mean.clone()
    once = nn.BatchNorm2d(128)
    seen = network.features(images(4, 32)).stages[-1]
    once.train()(seen)
    step = once.running_mean  # 0.1 of the batch's mean
    torch.testing.assert_close(network.bn1.running_mean, 0.81 * before + 1.9 * step)


@pytest.mark.parametrize("name", [n for n in FAMILIES if not n.startswith("shuffle")])
def test_convolutions_are_drawn_by_their_fan_out(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(name, 100)
    ratios = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            published = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            ratios.append(module.weight.std().item() / published)
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    assert 0.97 < sum(ratios) / len(ratios) < 1.03
    bound = 1 / math.sqrt(network.head.in_features)
    if name in ("vgg8", "mobilenetv2"):
        assert network.head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    else:
        assert 0.9 * bound < network.head.weight.abs().max() <= bound
    if name in ("vgg8", "mobilenetv2", "wrn_16_1"):
        assert not network.head.bias.any()
    else:
        assert network.head.bias.any()


@pytest.mark.parametrize("name", ["shufflenetv1", "shufflenetv2"])
def test_shufflenets_keep_torch_initialisation(name: str) -> None:
    for module in build_model(name, 100).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert 0.8 * bound < module.weight.abs().max() <= bound


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_come_from_the_current_generator_alone(name: str) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(nn.utils.parameters_to_vector(build_model(name, 10).parameters()))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_shufflenetv2_batch_norms_are_widened_copies() -> None:
    """The convolved half of the channels stands second, as in the pre-activation."""
    network = filled("shufflenetv2")
    for layer, wide in zip(
        (network.layer1, network.layer2, network.layer3),
        network.batch_norms_before_relu(),
        strict=True,
    ):
        narrow = layer[-1].bn3
        half = narrow.num_features
        assert torch.equal(wide.weight[half:], narrow.weight)
        assert torch.equal(wide.bias[half:], narrow.bias)
        assert not wide.weight.requires_grad
    with torch.no_grad():
        passed = network.features(images(2, 32)).preacts[1][:, :58]
    assert passed.min() >= 0


def test_an_unknown_name_gets_the_nearest_guess() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet8x4'"):
        build_model("resnet8_x4", 10)


def test_a_dropped_map_is_refused_where_it_is_asked_for() -> None:
    features = build_model("resnet8", 10).features(torch.zeros(2, 3, 8, 8))
    thinned = features.only({"pooled"}).map(torch.clone)
    assert torch.equal(thinned.logits, features.logits)
    assert torch.equal(thinned.pooled, features.pooled)
    with pytest.raises(DroppedError, match="the teacher's stages were dropped"):
        len(thinned.stages)
    with pytest.raises(DroppedError, match="last_map"):
        thinned._replace(logits=features.logits).last_map.sum()
