"""The reference networks' outputs: where they lie, their names, inputs and comparison."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmark.models import build_model, model_infos
from benchmark.models.features import Model
from tests.conftest import GOLDEN
from tests.fill import fill_state

ARRAYS = np.load(GOLDEN / "golden_models.npz")
IMAGENET_FILES = ("imagenet", "mobilenetv1", "advised_deit", "advisors", "bit", "rednet")
# Networks without a reference of their own: test_peer_networks.py has what is known of them.
UNREFERENCED = ("resnet_peers", "densenet")
CIFAR = [
    name
    for name, info in model_infos().items()
    if info.module not in (*IMAGENET_FILES, *UNREFERENCED)
]
# The smallest network of each file.
FAMILIES = (
    "resnet8",
    "wrn_16_1",
    "resnet18",
    "vgg8",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2",
)
_OTHER_NAMES = {"shufflenetv1": "ShuffleV1", "shufflenetv2": "ShuffleV2"}


@cache
def _names() -> dict[tuple[str, str], str]:
    keys = {tuple(key.split("/")[:2]) for key in ARRAYS if key.count("/") == 2}
    return {(dataset, name.lower()): name for dataset, name in keys}


def reference_name(dataset: str, name: str) -> str:
    """Return what the reference calls our network, as a prefix of its arrays."""
    ours = _OTHER_NAMES.get(name, name).lower().removeprefix("tv_")
    return f"{dataset}/{_names()[dataset, ours]}"


def reference_names(dataset: str) -> set[str]:
    return {f"{dataset}/{name}" for key, name in _names().items() if key[0] == dataset}


@cache
def _all_facts(fixtures: Path) -> Any:
    return json.loads((fixtures / "golden" / "models.json").read_text("utf-8"))


def facts(fixtures: Path, prefix: str) -> dict[str, Any]:
    """Return the network's entry in models.json."""
    dataset, name = prefix.split("/")
    entry: dict[str, Any] = _all_facts(fixtures)[dataset][name]
    return entry


def filled(name: str, num_classes: int = 100) -> Model:
    """Build a network and fill it by the formula; eval mode."""
    with torch.device("meta"):
        network = build_model(name, num_classes)
    network.to_empty(device="cpu")
    fill_state(network)
    return network.eval()


def images(batch: int, size: int) -> Tensor:
    """Return the reference's input [batch, 3, size, size], float32."""
    flat = np.sin(0.01 * np.arange(batch * 3 * size * size)).astype(np.float32)
    return torch.from_numpy(flat).reshape(batch, 3, size, size)


def error(ours: Tensor | npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the largest difference relative to the reference's largest magnitude."""
    given = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    wanted = np.asarray(reference)
    assert given.shape == wanted.shape
    return float(np.abs(given - wanted).max() / max(np.abs(wanted).max(), 1e-300))


def map_error(ours: Tensor, prefix: str) -> float:
    """Compare a feature map with its four statistics and sixteen strided samples."""
    flat = ours.detach().numpy().reshape(-1)
    stats = [flat.sum(), (flat**2).sum(), flat.min(), flat.max()]
    sample = flat[np.arange(16) * (flat.size // 16)]
    return max(
        error(stats, ARRAYS[f"{prefix}_stats"]),
        error(sample, ARRAYS[f"{prefix}_sample"]),
    )
