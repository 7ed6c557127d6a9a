"""TaggedWeights weights of timm and torchvision by their tags, from the caches of their hubs.

``timm:resnet18.a1_in1k`` is a network of timm with a tag of its weights,
``tv_resnet18.IMAGENET1K_V1`` one of torchvision's. Nothing is downloaded: the files lie where
timm and torch left them (HF_HOME and TORCH_HOME move those places).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError, unknown
from benchmark.base.torchvision_shim import make_torchvision_importable

Triple = tuple[float, float, float]


class TaggedWeights(NamedTuple):
    """A file of published weights on this machine, and how its images are normalised."""

    path: Path
    mean: Triple
    std: Triple


@cache
def published(tag: str) -> TaggedWeights:
    """Return the file of a tag; UserError for an unknown one, and if its file is not there."""
    network, _, weights = tag.partition(".")
    make_torchvision_importable()
    if network.startswith("timm:"):
        return _timm(network.removeprefix("timm:"), weights, tag)
    return _torchvision(network.removeprefix("tv_"), weights, tag)


def _timm(network: str, weights: str, tag: str) -> TaggedWeights:
    import timm
    from timm.models import get_pretrained_cfg

    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{network}.*")]
    if weights not in tags:
        raise unknown(f"tag of timm:{network}", weights, tags)
    config: Any = get_pretrained_cfg(f"{network}.{weights}")
    path = _from_hub(config.hf_hub_id, config.hf_hub_filename) if config.hf_hub_id else None
    if path is None and config.url:
        path = _from_torch(config.url)
    if path is None:
        raise _missing(tag, f"timm.create_model('{network}.{weights}', pretrained=True)")
    return TaggedWeights(path, tuple(config.mean), tuple(config.std))


def _from_hub(repository: str, filename: str | None) -> Path | None:
    """Return the newest file that the hub's cache holds of a repository, without asking it."""
    from huggingface_hub import try_to_load_from_cache

    names = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def _torchvision(network: str, weights: str, tag: str) -> TaggedWeights:
    import torchvision.models

    try:
        every = torchvision.models.get_model_weights(network)
    except ValueError as error:
        raise unknown(
            "network of torchvision", network, torchvision.models.list_models()
        ) from error
    tags = [each.name for each in every]
    if weights not in tags:
        raise unknown(f"tag of tv_{network}", weights, tags)
    chosen = every[weights]
    path = _from_torch(chosen.url)
    if path is None:
        raise _missing(tag, f"torchvision.models.{network}(weights='{weights}')")
    transform = chosen.transforms()
    return TaggedWeights(path, tuple(transform.mean), tuple(transform.std))


def _from_torch(url: str) -> Path | None:
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return path if path.is_file() else None


def _missing(tag: str, call: str) -> UserError:
    return UserError(
        f"the weights of {tag} are not in the local cache, and jobs never download; fetch them"
        f' once where there is a network: python -c "import {call.partition(".")[0]}'
        f'{".models" * call.startswith("torchvision")}; {call}"'
    )
