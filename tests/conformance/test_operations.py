"""What steps ask of a machine is counted rightly, and the shipped counts are those of this code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmark.conformance.operations import PairCounter, count
from benchmark.conformance.pairs import Pair
from benchmark.methods.catalog import method_info, method_infos
from benchmark.planning.operations import counted_work


def test_a_convolution_with_its_backward_pass() -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    with torch.no_grad():
        found = count(lambda: layer(images))
    forward = 2 * (3 * 3 * 3) * 8 * 2 * 16 * 16
    assert found.operations == forward
    read, weights, written = 4 * images.numel(), 4 * layer.weight.numel(), 4 * 2 * 8 * 16 * 16
    assert (found.moved, found.kernels) == (read + weights + written, 1)
    assert (found.peak, found.stays) == (written, written)  # what it returns is still held
    step = count(lambda: layer(images).sum().backward())
    assert step.operations == 3 * forward
    assert step.stays == read + weights  # the gradients


def test_what_is_freed_is_held_no_longer() -> None:
    def work() -> Tensor:
        found = torch.zeros(1000)
        for _ in range(5):
            found = found + 1
        return found

    found = count(work)
    assert found.peak == 2 * 4000
    assert found.stays == 4000


def test_views_move_nothing() -> None:
    values = torch.zeros(10, 10)
    found = count(lambda: values.t()[2:].clone())
    assert found.moved == 2 * 4 * 80  # the copy alone
    assert found.kernels == 1


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1"])
def test_the_shipped_counts_of_networks(name: str) -> None:
    counter = PairCounter(Pair(name, name), 8)
    known = counted_work().network(name, 8)
    assert known.exact
    assert known.parameters == counter.parameters()
    for ours, shipped in ((counter.student, known.step), (counter.forward(), known.forward)):
        assert ours.image.operations == shipped.image.operations > 0
        assert ours.step.operations == pytest.approx(shipped.step.operations, abs=100)
        # Which kernels torch calls is a matter of its version.
        assert ours.image.moved == pytest.approx(shipped.image.moved, rel=0.2)
        assert ours.image.peak == pytest.approx(shipped.image.peak, rel=0.2)


def test_every_method_is_counted_in_its_present_version() -> None:
    pair = Pair("resnet32x4", "resnet8x4")
    found = {
        name: counted_work().method(name, info.version, pair.key)
        for name, info in method_infos().items()
    }
    assert not [name for name, counted in found.items() if not counted.exact]


@pytest.mark.slow
def test_the_shipped_counts_of_methods() -> None:
    pair = Pair("vgg13", "mobilenetv2")
    counter = PairCounter(pair, 32)
    for name in ("kd", "dhkd", "crd"):
        ours = counter.method(name)
        shipped = counted_work().method(name, method_info(name).version, pair.key).counts
        assert shipped is not None
        assert ours.image.operations == pytest.approx(shipped.image.operations, rel=0.01, abs=100)
        assert ours.image.moved == pytest.approx(shipped.image.moved, rel=0.2)


@pytest.mark.parametrize("name", ["resnet8", pytest.param("timm:test_vit", marks=pytest.mark.slow)])
def test_shapes_alone_are_counted_as_values_are(name: str) -> None:
    """On the device meta: the same operations, bytes and kernels, but for a few of Python's own."""
    side = 160 if name == "timm:test_vit" else 8
    computed, shapes = (PairCounter(Pair(name, name), side, d) for d in ("cpu", "meta"))
    assert shapes.parameters() == computed.parameters()
    for ours, theirs in (
        (shapes.student, computed.student),
        (shapes.forward(), computed.forward()),
    ):
        assert ours.image == theirs.image
        assert ours.image.operations > 0
        assert ours.step.moved == pytest.approx(theirs.step.moved, rel=0.01)
        assert ours.step.kernels == pytest.approx(theirs.step.kernels, abs=5)


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("tv_resnet18", 1.82),
        ("tv_resnet50", 4.09),
        ("timm:deit_tiny_patch16_224", 1.26),
        ("timm:deit_small_patch16_224", 4.61),
        ("timm:regnety_160", 15.96),
    ],
)
def test_the_shipped_counts_are_the_published_ones(name: str, giga: float) -> None:
    """Multiply-adds of a pass at 224 pixels, as torchvision's and timm's tables print them."""
    counted = counted_work().network(name, 224)
    assert counted.exact
    # Ours answer for 100 classes, theirs for 1000.
    assert counted.forward.image.operations / 2e9 == pytest.approx(giga, rel=0.01)
