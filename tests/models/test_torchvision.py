"""torchvision imports beside any torch, and its ResNets are torchvision's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmark.base import torchvision_shim as shim
from benchmark.models import build_model
from tests.fill import fill_state
from tests.models.reference import images


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_give_the_logits_of_torchvision(name: str) -> None:
    network = build_model(f"tv_{name}", 10)
    fill_state(network)
    import torchvision.models

    theirs = torchvision.models.get_model(name, num_classes=10)
    theirs.load_state_dict(network.state_dict())
    x = images(2, 64)
    with torch.no_grad():
        ours = network.train().features(x)
        assert torch.equal(ours.logits, theirs.train()(x))
    assert torch.equal(network.layer1[0].bn1.running_var, theirs.layer1[0].bn1.running_var)


def test_resnet152_has_the_published_size() -> None:
    with torch.device("meta"):
        network = build_model("tv_resnet152", 1000)
        features = network.features(torch.empty(2, 3, 224, 224))
    assert sum(p.numel() for p in network.parameters()) == 60_192_808
    assert features.stages[-1].shape == (2, 2048, 7, 7)


def test_nothing_is_declared_where_the_extension_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(shim, "_extension_loads", lambda folder: True)
    monkeypatch.setattr(torch.library, "Library", None)  # calling it would raise
    assert shim.make_torchvision_importable.__wrapped__() is False


def test_operators_are_declared_where_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    defined = []

    class Library:
        def __init__(self, namespace: str, kind: str) -> None:
            assert (namespace, kind) == ("torchvision", "DEF")

        def define(self, schema: str) -> None:
            defined.append(schema.partition("(")[0])

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(shim, "_extension_loads", lambda folder: False)
    monkeypatch.setattr(shim, "_declared", [])
    monkeypatch.setattr(torch.library, "Library", Library)
    assert shim.make_torchvision_importable.__wrapped__() is True
    assert defined == ["nms", "qnms"]


def test_a_foreign_extension_does_not_load(tmp_path: Path) -> None:
    assert not shim._extension_loads(tmp_path)
    (tmp_path / "_C.so").write_bytes(b"no library")
    assert not shim._extension_loads(tmp_path)
