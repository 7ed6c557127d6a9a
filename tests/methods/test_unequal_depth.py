"""Methods that compare stages from the deepest on, with networks of unequal depth."""

from __future__ import annotations

import pytest
import torch

from benchmark.methods import build_method
from benchmark.methods.base import Probe, Setup, Step
from benchmark.models import build_model


@pytest.mark.parametrize("name", ["ofd", "reviewkd"])
@pytest.mark.parametrize(("teacher", "student"), [("resnet8", "vgg8"), ("vgg8", "resnet8")])
def test_the_deepest_stages_are_matched(name: str, teacher: str, student: str) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    networks = [build_model(student, 10), build_model(teacher, 10)]
    assert len({len(n.features(images).stages) for n in networks}) == 2
    probes = [
        Probe(n, m, m.features(images)) for n, m in zip((student, teacher), networks, strict=True)
    ]
    method = build_method(name, Setup(*probes, 10, labels, 4, 1, 0))
    with torch.no_grad():
        taught = networks[1].features(images)
    seen = networks[0].features(images)
    heads = (networks[0].head, networks[1].head)
    loss, _ = method.forward(Step(images, labels, labels, seen, taught, 1, *heads))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None for p in networks[0].parameters())
