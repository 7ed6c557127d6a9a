"""The networks of ImageNet's and DeiT's tables against the reference: keys, maps, every head."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.models.features import Features, Model
from tests.fill import fill_state
from tests.golden_imagenet import archive, close, settings
from tests.models.reference import images

GOLDEN_IMAGENET = (
    "models:deit_tiny_patch16_224",
    "models:deit_tiny_distilled_patch16_224",
    "models:deit_small_patch16_224",
    "models:deit_small_distilled_patch16_224",
    "models:tv_resnet18",
    "models:tv_resnet34",
    "models:tv_resnet50",
    "models:mobilenetv1",
    "models:regnety_160",
    "models:projector_student_tiny",
    "models:projector_student_small",
    "models:civt_student_tiny",
)

# Ours, the reference's; all but the first two are slow.
LIBRARIES = {
    "timm:deit_tiny_distilled_patch16_224": "deit_tiny_distilled_patch16_224",
    "mobilenetv1": "mobilenetv1",
    "timm:deit_tiny_patch16_224": "deit_tiny_patch16_224",
    "tv_resnet18": "tv_resnet18",
    "timm:deit_small_patch16_224": "deit_small_patch16_224",
    "timm:deit_small_distilled_patch16_224": "deit_small_distilled_patch16_224",
    "tv_resnet34": "tv_resnet34",
    "tv_resnet50": "tv_resnet50",
    "timm:regnety_160": "regnety_160",
}
ADVISED = {
    "projector_deit_tiny": "projector_student_tiny",
    "civt_tiny": "civt_student_tiny",
    "projector_deit_small": "projector_student_small",
}
HEADS = {
    "deit_tiny_distilled_patch16_224": ("class", "distillation"),
    "deit_small_distilled_patch16_224": ("class", "distillation"),
    "projector_student_tiny": ("class", "distillation"),
    "projector_student_small": ("class", "distillation"),
    "civt_student_tiny": ("class", "conv", "inv"),
}


def _slow(names: dict[str, str], quick: int) -> list[Any]:
    listed = list(names)
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in listed[quick:]]
    return [*listed[:quick], *slow]


def _array(root: Path, name: str, key: str) -> Tensor | None:
    found = archive(root, "models").get(f"{name}/{key}")
    return None if found is None else torch.from_numpy(found)


def _same(ours: Tensor, root: Path, name: str, key: str) -> None:
    theirs = _array(root, name, key)
    assert theirs is not None, key
    close(ours, theirs)


def _same_map(map_: Tensor, root: Path, name: str, key: str) -> None:
    sample, stats = _array(root, name, f"{key}_sample"), _array(root, name, f"{key}_stats")
    shape = _array(root, name, f"{key}_shape")
    assert sample is not None
    assert stats is not None
    assert shape is not None
    assert list(map_.shape) == shape.tolist(), key
    flat = map_.flatten()
    close(flat[torch.arange(16) * (len(flat) // 16)], sample)
    close(torch.stack([flat.sum(), flat.square().sum(), flat.min(), flat.max()]), stats, 1e-9)


def _features(name: str, dtype: torch.dtype = torch.float64) -> tuple[Model, Features]:
    network = build_model(name, 1000)
    fill_state(network)
    network = network.to(dtype).eval()
    with torch.no_grad():
        return network, network.features(images(2, 224).to(dtype))


def _maps(name: str, found: Features) -> dict[str, Tensor]:
    """Return what the reference has of a network's maps, by its names."""
    if found.patches is not None:  # after every third block
        tokens = {f"block{3 * i}": stage for i, stage in enumerate(found.stages) if i}
        return {"embed": found.stages[0], **tokens}
    first = 1 if name == "mobilenetv1" else 0
    maps = {f"stage{i}" if i else "stem": stage for i, stage in enumerate(found.stages)}
    maps |= {f"preact{i}": before for i, before in enumerate(found.preacts) if i}
    if name == "regnety_160":
        maps = {key: value for key, value in maps.items() if not key.startswith("preact")}
    return dict(list(maps.items())[first:])


@pytest.mark.parametrize("ours", _slow(LIBRARIES, 2))
def test_the_libraries_networks(ours: str, fixtures: Path) -> None:
    name = LIBRARIES[ours]
    network, found = _features(ours)
    keys = list(network.state_dict())
    facts = settings(fixtures, "models")[name]
    assert sum(p.numel() for p in network.parameters()) == facts["params"]
    assert hashlib.sha256("\n".join(keys).encode()).hexdigest() == facts["sha256_of_keys"]
    _same(found.logits, fixtures, name, "logits")
    for key, map_ in _maps(name, found).items():
        _same_map(map_, fixtures, name, key)
    if found.patches is None:
        _same(found.pooled, fixtures, name, "pooled")
    else:
        _same(found.patches.mean(1), fixtures, name, "patch_mean")
        _same(found.pooled[:, : found.patches.shape[2]], fixtures, name, "class_token")
    for head, logits in zip(HEADS.get(name, ()), found.heads, strict=True):
        _same(logits, fixtures, name, f"logits_{head}")


def test_single_precision(fixtures: Path) -> None:
    for ours, name in (("tv_resnet18", "tv_resnet18"), ("civt_tiny", "civt_student_tiny")):
        _, found = _features(ours, torch.float32)
        theirs = _array(fixtures, name, "logits_f32")
        assert theirs is not None
        close(found.logits, theirs, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ours", ADVISED)
def test_students_with_stems(ours: str, fixtures: Path) -> None:
    """Keys, tokens and heads in eval mode, heads in train mode (the stems have batch norms)."""
    name = ADVISED[ours]
    network, found = _features(ours)
    given = settings(fixtures, "models")[name]["state_dict"]
    expected = [entry for entry in given if not entry[0].startswith("distillation_loss.")]
    state = network.state_dict().items()
    assert [key for key, _ in state] == [key for key, _ in expected]
    if "small" not in ours:
        assert [list(value.shape) for _, value in state] == [shape for _, shape in expected]
    _same(found.logits, fixtures, name, "logits")
    for head, logits in zip(HEADS[name], found.heads, strict=True):
        _same(logits, fixtures, name, f"logits_{head}")
    assert found.patches is not None
    with torch.no_grad():
        torch.testing.assert_close(network.head(found.pooled), found.logits)
        stems = {"stem": network.network.conv_embed}
        if ours == "civt_tiny":
            stems = {"stem_conv": network.network.conv_embed, "stem_inv": network.network.inv_embed}
        for key, stem in stems.items():
            _same_map(stem(images(2, 224).double()), fixtures, name, key)
        if ours != "civt_tiny":
            _same(found.patches.mean(1), fixtures, name, "patch_mean")
            _same_map(found.patches, fixtures, name, "patch_tokens")
        trained = network.train().features(images(2, 224).double())
    for head, logits in zip(HEADS[name], trained.heads, strict=True):
        _same(logits, fixtures, name, f"train_logits_{head}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_gradients_of_a_step(name: str, fixtures: Path) -> None:
    network = build_model(f"timm:{name}", 1000)
    fill_state(network)
    found = network.double().train().features(images(2, 224).double())
    labels = torch.tensor([3, 917])
    if found.heads:
        first, second = found.heads
        loss = torch.nn.functional.cross_entropy(first, labels) / 2
        loss = loss + torch.nn.functional.cross_entropy(second, torch.tensor([511, 64])) / 2
    else:
        loss = torch.nn.functional.cross_entropy(found.logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    _same(loss.detach(), fixtures, name, "train_loss")
    gradients = [p.grad for p in network.parameters()]
    assert all(gradient is not None for gradient in gradients)
    sums = torch.stack([g.sum() for g in gradients if g is not None])
    squares = torch.stack([g.square().sum() for g in gradients if g is not None])
    _same(sums, fixtures, name, "gradient_sums")
    _same(squares, fixtures, name, "gradient_sums_of_squares")


@pytest.mark.parametrize("name", ["projector_deit_tiny", "civt_tiny"])
def test_other_sizes_of_images(name: str) -> None:
    network = build_model(name, 10, image_size=64, drop_path=0.1)
    found = network.features(torch.zeros(2, 3, 64, 64))
    assert found.patches is not None
    assert found.patches.shape == (2, 16, 192)
    with pytest.raises(UserError, match="built for images of 64 pixels, not 32 x 32"):
        network.features(torch.zeros(2, 3, 32, 32))
    with pytest.raises(UserError, match="16 x 16 pixels, not 40"):
        build_model(name, 10, image_size=40)


def test_co_advisings_small_student_has_its_parameters(fixtures: Path) -> None:
    with torch.device("meta"):
        network = build_model("civt_small", 1000)
    count = sum(p.numel() for p in network.parameters())
    assert count == settings(fixtures, "models")["civt_student_small"]["params"]


def test_tokens_of_the_stems_start_as_released() -> None:
    torch.manual_seed(0)
    network = build_model("civt_tiny", 10).network
    assert not hasattr(network, "patch_embed")
    for stem in (network.conv_embed, network.inv_embed):
        fan_in = stem.proj.weight[0].numel()
        assert stem.proj.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
    for head in (network.head_conv, network.head_inv):
        assert head.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not head.bias.any()
    assert network.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.no_weight_decay() >= {"pos_embed", "cls_token"}
