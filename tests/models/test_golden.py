"""Every network equals the reference: keys, outputs, features, running statistics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.models import build_model
from benchmark.models.features import Model
from tests.fill import fill_state
from tests.models.reference import (
    ARRAYS,
    CIFAR,
    error,
    facts,
    filled,
    images,
    map_error,
    reference_name,
    reference_names,
)

SINGLE, DOUBLE = 1e-5, 1e-10
IMAGENET = [
    "tv_resnet18",
    "mobilenetv1",
    pytest.param("tv_resnet34", marks=pytest.mark.slow),
    pytest.param("tv_resnet50", marks=pytest.mark.slow),
    pytest.param("tv_resnet101", marks=pytest.mark.slow),
]
# Deep ones whose train mode a shallower sibling of the same code shows.
DEEP = ("resnet34", "vgg16", "vgg19")
TRAINED = [pytest.param(n, marks=pytest.mark.slow) if n in DEEP else n for n in CIFAR]


def check_eval(network: Model, dataset: str, name: str, size: int) -> None:
    prefix = reference_name(dataset, name)
    x = images(2, size)
    with torch.no_grad():
        single = network.features(x)
        double = network.double().features(x.double())
    assert error(single.logits, ARRAYS[f"{prefix}/logits"]) < SINGLE
    assert error(single.pooled, ARRAYS[f"{prefix}/pooled"]) < SINGLE
    assert error(double.logits, ARRAYS[f"{prefix}/logits_f64"]) < DOUBLE
    assert error(double.pooled, ARRAYS[f"{prefix}/pooled_f64"]) < DOUBLE
    # The reference's MobileNetV1 lists no stem, its MobileNetV2 no pre-activations.
    skipped = 1 if name == "mobilenetv1" else 0
    for kind, maps in (("feats", double.stages), ("preact_feats", double.preacts)):
        if name == "mobilenetv2" and kind == "preact_feats":
            continue
        assert f"{prefix}/{kind}{len(maps) - skipped}_stats" not in ARRAYS
        for i, given in enumerate(maps[skipped:]):
            assert map_error(given, f"{prefix}/{kind}{i}") < DOUBLE, (kind, i)


def test_every_reference_network_is_built() -> None:
    assert {reference_name("cifar100", name) for name in CIFAR} == reference_names("cifar100")
    names = [getattr(name, "values", [name])[0] for name in IMAGENET]
    assert {reference_name("imagenet", name) for name in names} == reference_names("imagenet")


@pytest.mark.parametrize("name", CIFAR)
def test_keys_and_batch_norms(name: str, fixtures: Path) -> None:
    entry = facts(fixtures, reference_name("cifar100", name))
    with torch.device("meta"):
        network = build_model(name, 100)
    state = [[k, list(v.shape), str(v.dtype)[6:]] for k, v in network.state_dict().items()]
    assert state == entry["state_dict"]
    assert sum(p.numel() for p in network.parameters()) == entry["params"]
    if isinstance(entry["bn_before_relu"], list):
        wanted = [network.get_submodule(path) for path in entry["bn_before_relu"]]
        given = network.batch_norms_before_relu()
        assert all(a is b for a, b in zip(given, wanted, strict=True))


@pytest.mark.parametrize("name", CIFAR)
def test_eval_mode(name: str) -> None:
    check_eval(filled(name), "cifar100", name, 32)


@pytest.mark.parametrize("name", TRAINED)
def test_train_mode(name: str) -> None:
    prefix = f"{reference_name('cifar100', name)}/train"
    network = filled(name).double().train()
    with torch.no_grad():
        features = network.features(images(8, 32).double())
    assert error(features.logits, ARRAYS[f"{prefix}_logits_f64"]) < DOUBLE
    assert error(features.pooled, ARRAYS[f"{prefix}_pooled_f64"]) < DOUBLE
    state = network.state_dict()
    for statistic in ("running_mean", "running_var"):
        sums = [v.sum().item() for k, v in state.items() if k.endswith(statistic)]
        assert error(sums, ARRAYS[f"{prefix}_{statistic}_sums"]) < DOUBLE
    counts = [v.item() for k, v in state.items() if k.endswith("num_batches_tracked")]
    assert counts == ARRAYS[f"{prefix}_num_batches"].tolist()


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_eval_mode(name: str) -> None:
    network = build_model(name, 1000)
    fill_state(network)
    check_eval(network.eval(), "imagenet", name, 224)


def test_imagenet_keys(fixtures: Path) -> None:
    for name in ("tv_resnet18", "tv_resnet50", "mobilenetv1"):
        entry = facts(fixtures, reference_name("imagenet", name))
        with torch.device("meta"):
            network = build_model(name, 1000)
        keys = [[k, list(v.shape), str(v.dtype)[6:]] for k, v in network.state_dict().items()]
        assert keys == entry["state_dict"]
        wanted = [network.get_submodule(path) for path in entry["bn_before_relu"]]
        assert list(network.batch_norms_before_relu()) == wanted
