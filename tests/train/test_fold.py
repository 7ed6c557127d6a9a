"""Folded batch norms: the same function, and only where nothing else sees a convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from benchmark.models import build_model
from benchmark.models.features import Features, Model
from benchmark.train.fold import foldable, folded

# A teacher of every family, and how many of its batch norms follow a convolution: all, but for
# networks that normalise first.
TEACHERS = {
    "resnet20": (32, 21, 21),
    "resnet8x4": (32, 10, 10),
    "resnet50": (32, 53, 53),
    "vgg8": (32, 5, 5),
    "wrn_16_1": (32, 6, 13),
    "mobilenetv2": (32, 53, 53),
    "shufflenetv1": (32, 49, 49),
    "shufflenetv2": (32, 56, 56),
    "tv_resnet18": (64, 20, 20),
    "timm:resnet18": (64, 20, 20),
    "timm:efficientnet_b0": (64, 0, 49),  # its batch norms are more than that
}


def trained(model: Model) -> Model:
    """Give batch norms statistics and weights that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                assert tensor is not None
                nn.init.normal_(tensor, std=0.3)
            for tensor in (module.running_var, module.weight):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval().requires_grad_(False)


def num_norms(model: Model) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", TEACHERS)
def test_every_feature_stays_what_it_was(name: str) -> None:
    size, num_folded, total = TEACHERS[name]
    model = trained(build_model(name, 10))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, size, size)
    result = folded(model, images[:1])
    assert (num_norms(model), num_norms(model) - num_norms(result)) == (total, num_folded)
    assert not any(parameter.requires_grad for parameter in result.parameters())
    for ours, theirs in zip(
        tree_leaves(tuple(result.features(images))),
        tree_leaves(tuple(model.features(images))),
        strict=True,
    ):
        if theirs is None:  # what this network has not
            assert ours is None
            continue
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), "the network itself stays as it is"


class Odd(Model):
    """A convolution and its batch norm, used as ``way`` says."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.way = way
        self.aliases = (self.bn,)
        if way == "a hook looks at the batch norm":
            self.bn.register_forward_hook(lambda *_: None)

    def features(self, images: Tensor) -> Features:
        raw = self.conv(images)
        out = self.aliases[0](raw) if self.way == "by no name" else self.bn(raw)
        if self.way == "the convolution's output is added too":
            out = out + raw
        elif self.way == "the convolution runs again":
            out = out + self.conv(out)
        elif self.way == "the batch norm runs again":
            out = self.bn(F.relu(out))
        elif self.way == "the weights are read elsewhere":
            out = out * self.conv.weight.mean()
        stage = raw if self.way == "the convolution's output is a stage" else out
        return Features(out.mean((2, 3)), out.mean((2, 3)), (stage,), (stage,))


@pytest.mark.parametrize(
    "way",
    [
        "the convolution's output is added too",
        "the convolution runs again",
        "the batch norm runs again",
        "the weights are read elsewhere",
        "the convolution's output is a stage",
        "a hook looks at the batch norm",
    ],
)
def test_what_others_see_is_left_alone(way: str) -> None:
    images = torch.randn(1, 3, 8, 8)
    assert len(list(foldable(trained(Odd("plainly")), images))) == 1
    assert list(foldable(trained(Odd(way)), images)) == []


def test_a_batch_norm_is_gone_by_every_name_that_the_network_has_for_it() -> None:
    model, images = trained(Odd("plainly")), torch.randn(2, 3, 8, 8)
    model.again = model.bn
    result = folded(model, images[:1])
    assert num_norms(result) == 0
    torch.testing.assert_close(result.features(images).logits, model.features(images).logits)


def test_a_network_that_calls_a_module_which_it_does_not_name_is_not_folded() -> None:
    model = trained(Odd("by no name"))
    assert folded(model, torch.randn(1, 3, 8, 8)) is model


def test_nothing_to_fold_makes_no_copy() -> None:
    model = trained(Odd("the convolution runs again"))
    assert folded(model, torch.randn(1, 3, 8, 8)) is model


def test_a_copy_that_computes_anything_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = trained(Odd("plainly")), torch.randn(2, 3, 8, 8)
    assert folded(model, images) is not model
    with monkeypatch.context() as patch:
        patch.setattr("benchmark.train.fold.fuse_conv_bn_weights", lambda w, b, *_: (w, b))
        assert folded(model, images) is model
