"""Networks of the user's own: wrapped as they are, added by a file, refused where they are none."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods.catalog import add_plugin, plugin_files
from benchmark.models import build_model, model_info
from benchmark.models.wrapped import wrap
from benchmark.train.fold import folded


class Small(nn.Module):
    def __init__(self, averages: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(4, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, 5)
        self.averages = averages

    def forward(self, images: Tensor) -> Tensor:
        x = self.block(self.stem(images))
        return self.fc(x.mean((2, 3)) if self.averages else x.amax((2, 3)))


STAGES = ("stem", "block")
PLUGIN = """
from torch import nn
from benchmark.models import model
from benchmark.models.wrapped import wrap


@model(stages=0)
def NAME(num_classes):
    head = nn.Linear(4, num_classes)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return wrap(net, stages=("0",), head="3")
"""


def test_features_are_what_the_network_computes() -> None:
    network = Small().eval()
    model = wrap(network, stages=STAGES, head="fc").eval()
    images = torch.rand(2, 3, 8, 8)
    found = model.features(images)
    stem = network.stem(images)
    assert torch.equal(found.logits, network(images))
    assert torch.equal(found.stages[0], stem)
    assert torch.equal(found.stages[1], network.block(stem))
    assert torch.equal(model.head(found.pooled), found.logits)
    assert found.last_map is found.stages[1]
    assert set(model.state_dict()) == set(network.state_dict())
    assert not network.stem._forward_hooks
    other = wrap(Small(), stages=STAGES, head="fc").eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(copy.deepcopy(other)(images), found.logits)
    thin = folded(model, images)
    assert thin is not model
    torch.testing.assert_close(thin.features(images).stages[1], found.stages[1])


def test_a_maximum_is_no_mean() -> None:
    model = wrap(Small(averages=False), stages=STAGES, head="fc").eval()
    assert model.features(torch.rand(2, 3, 8, 8)).last_map is None


def test_what_cannot_be_wrapped_says_why() -> None:
    with pytest.raises(UserError, match=r"Small has no module 'layer1' \(it has stem, stem.0"):
        wrap(Small(), stages=("layer1",), head="fc")
    with pytest.raises(UserError, match="'block' of Small is not one linear layer"):
        wrap(Small(), stages=STAGES, head="block")
    with pytest.raises(UserError, match="name at least one stage"):
        wrap(Small(), stages=(), head="fc")
    model = wrap(Small(), stages=STAGES, head="fc")
    with pytest.raises(UserError, match="does not say which batch norms"):
        model.batch_norms_before_relu()
    with pytest.raises(UserError, match="cannot be cut after a stage"):
        model.trunk(0, torch.rand(1, 3, 8, 8))


def plugin(folder: Path, name: str = "tiny", text: str = PLUGIN) -> Path:
    path = folder / f"{name}_file.py"
    path.write_text(text.replace("NAME", name))
    return path


def test_a_file_adds_networks_that_are_known_by_its_content(tmp_path: Path) -> None:
    path = plugin(tmp_path)
    assert add_plugin(path) is None
    before = model_info("tiny").version
    assert build_model("tiny", 5)(torch.rand(2, 3, 8, 8)).shape == (2, 5)
    assert plugin_files() == (path,)
    path.write_text(path.read_text() + "# changed\n")
    add_plugin(path)
    assert model_info("tiny").version != before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("resnet20", PLUGIN, "a network named 'resnet20' exists already"),
        ("tiny", "x = 1\n", "defines no class Options.*and no function marked @model"),
        ("tiny", PLUGIN.replace("return wrap", "return list"), "tiny cannot be built: TypeError"),
        ("tiny", PLUGIN.replace("return wrap(net", "return net  # ("), "returns a Sequential, not"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = plugin(tmp_path, name, text)

    def use() -> None:
        add_plugin(path)
        build_model(name, 5)

    with pytest.raises(UserError, match=message):
        use()


def test_a_forgotten_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"unknown model 'tiny'.*; tiny_file.py defines it: add"):
        model_info("tiny")
    with pytest.raises(UserError) as found:
        model_info("tinier")
    assert "defines it" not in str(found.value)


def test_a_wrong_name_of_timm_gets_guesses() -> None:
    with pytest.raises(UserError) as found:
        model_info("timm:resnet181")
    assert "did you mean 'resnet18' or" in str(found.value)
    assert len(str(found.value)) < 200
