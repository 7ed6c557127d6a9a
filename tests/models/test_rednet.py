"""Involutions, RedNet and the pair of teachers of co-advising; BiT's head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.models.features import Model
from benchmark.models.rednet import Involution
from benchmark.train.own_teacher import pick_classes
from tests.fill import fill_state

BIT = "timm:resnetv2_50x1_bit"


def alive(name: str) -> Model:
    """Return a network whose blocks do something: their last scales start at 0."""
    torch.manual_seed(0)
    network = build_model(name, 10).eval()
    for key, parameter in network.named_parameters():
        if key.endswith("bn3.weight"):
            nn.init.constant_(parameter, 0.3)
    return network


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (7, 1), (7, 2)])
def test_an_involution_place_by_place(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = Involution(32, kernel, stride).double().eval()
    fill_state(layer)
    x = torch.randn(2, 32, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        found = layer(x)
        pooled = nn.functional.avg_pool2d(x, stride) if stride > 1 else x
        weights = layer.conv2(layer.conv1(pooled)).view(2, 2, kernel, kernel, *found.shape[2:])
    half = kernel // 2
    padded = nn.functional.pad(x, (half, half, half, half))
    for b, channel, i, j in ((0, 0, 0, 0), (1, 17, 2, 3), (0, 31, 1, 2)):
        top, left = i * stride, j * stride
        window = padded[b, channel, top : top + kernel, left : left + kernel]
        expected = (window * weights[b, channel // 16, :, :, i, j]).sum()
        torch.testing.assert_close(found[b, channel, i, j], expected)


def test_rednet_is_cut_and_counted() -> None:
    network = alive("rednet26")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole = network.features(x)
        assert torch.equal(network.after(2, network.trunk(2, x)).logits, whole.logits)
    assert [stage.shape[1] for stage in whole.stages] == [64, 256, 512, 1024, 2048]
    assert whole.stages[-1].shape[2:] == (2, 2)
    with torch.device("meta"):
        large = build_model("rednet101", 1000)
    # The paper prints 25.6 M.
    assert sum(p.numel() for p in large.parameters()) == 25_652_950
    assert [bn.num_features for bn in large.batch_norms_before_relu()] == [256, 512, 1024, 2048]


def test_a_rednet_of_mmclassification_loads(tmp_path: Path) -> None:
    network = build_model("rednet26", 10)
    fill_state(network)
    state = network.state_dict()
    foreign = {
        key.replace("fc.", "head.fc.") if key.startswith("fc.") else f"backbone.{key}": value
        for key, value in state.items()
    }
    torch.save({"state_dict": foreign, "meta": {"epoch": 100}}, tmp_path / "rednet.pth")
    other = build_model("rednet26", 10)
    load_into(other, load_state(tmp_path / "rednet.pth"), "the file")
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_two_teachers_answer_as_one() -> None:
    network = alive("resnet8_rednet26")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = network.features(x)
        first, second = network.conv.features(x).logits, network.inv.features(x).logits
        assert torch.equal(found.heads[0], first)
        assert torch.equal(found.heads[1], second)
        torch.testing.assert_close(found.logits, (first + second) / 2)
        torch.testing.assert_close(network.head(found.pooled), found.logits)


def test_a_file_of_both_teachers_loads_and_its_classes_are_picked(tmp_path: Path) -> None:
    """As docs/reproducing.md puts it together from the files of two networks."""
    parts = {"conv": alive("resnet8"), "inv": alive("rednet26")}
    both = {f"{n}.{k}": v for n, network in parts.items() for k, v in network.state_dict().items()}
    torch.save(both, tmp_path / "both.pth")
    network = build_model("resnet8_rednet26", 10).eval()
    load_into(network, load_state(tmp_path / "both.pth"), "the file")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        whole = network.features(x)
        assert torch.equal(whole.heads[1], parts["inv"].features(x).logits)
        some = pick_classes(network, [7, 2]).features(x)
    for picked, logits in zip(
        (some.logits, *some.heads), (whole.logits, *whole.heads), strict=True
    ):
        torch.testing.assert_close(picked, logits[:, [7, 2]])


@pytest.mark.slow
def test_the_head_of_bit_is_a_linear_layer(tmp_path: Path) -> None:
    """timm's file, whose classifier is a convolution, loads; so does what is saved here."""
    network = build_model(BIT, 10).eval()
    import timm

    theirs = timm.create_model("resnetv2_50x1_bit", num_classes=10).eval()
    fill_state(theirs)
    torch.save(theirs.state_dict(), tmp_path / "bit.pth")
    load_into(network, load_state(tmp_path / "bit.pth"), "the file")
    assert list(network.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = network.features(x)
        torch.testing.assert_close(found.logits, theirs(x))
    assert found.last_map is not None
    torch.testing.assert_close(found.last_map.mean((2, 3)), found.pooled)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    again = build_model(BIT, 10).eval()
    load_into(again, load_state(tmp_path / "own.pth"), "the file")
    assert torch.equal(again.head.weight, network.head.weight)
    with pytest.raises(UserError, match="is for 10 classes, the model for 7"):
        load_into(build_model(BIT, 7), load_state(tmp_path / "bit.pth"), "the file")


def test_funmatchs_student_starts_with_a_head_of_zeros() -> None:
    network = build_model("bit_resnet50x1", 1000)
    assert not network.head.weight.any()
    assert not network.head.bias.any()
    assert sum(p.numel() for p in network.parameters()) == 25_549_352
