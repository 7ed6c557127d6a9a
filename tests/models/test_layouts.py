"""Checkpoints under other projects' names load, and what no rule knows is named."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into
from benchmark.models.layouts import converted


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "backbone."])
def test_wrappers_are_taken_off(wrapper: str) -> None:
    model = build_model("resnet8", 10)
    state = {f"{wrapper}{k}": v + 1 for k, v in model.state_dict().items()}
    load_into(model, state, "here")
    assert all(torch.equal(v, state[f"{wrapper}{k}"]) for k, v in model.state_dict().items())


def test_mmpretrains_resnets_load() -> None:
    model = build_model("tv_resnet18", 10)
    state = {}
    for key, value in model.state_dict().items():
        name = key.replace("fc.", "head.fc.") if key.startswith("fc.") else f"backbone.{key}"
        state[name] = value * 2
    load_into(model, state, "here")
    assert torch.equal(model.state_dict()["fc.bias"], state["head.fc.bias"])


def _lites_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the renaming by position: both list their tensors in the same order."""
    outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    outer["classifier"] = "_fc"
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    others = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    blocks: list[str] = []
    found = {}
    for key, value in state.items():
        match = re.match(r"(blocks\.\d+\.\d+)\.(\w+)\.(.*)", key)
        if match is None:
            name, _, rest = key.partition(".")
            found[f"{outer[name]}.{rest}"] = value
            continue
        if match[1] not in blocks:
            blocks.append(match[1])
        index = blocks.index(match[1])
        names = first if index == 0 else others
        found[f"_blocks.{index}.{names[match[2]]}.{match[3]}"] = value
    return found


def test_efficientnet_lites_load() -> None:
    model = build_model("timm:tf_efficientnet_lite0", 10)
    own = model.state_dict()
    given = {key: torch.full_like(value, i) for i, (key, value) in enumerate(own.items())}
    foreign = _lites_names(given)
    assert not set(foreign) & set(own)
    back = converted(foreign, own)
    assert all(torch.equal(back[key], value) for key, value in given.items())


def test_other_names_are_refused_by_name() -> None:
    model = build_model("resnet8", 10)
    state = {f"layers.{k}": v for k, v in model.state_dict().items()}
    with pytest.raises(UserError, match=r"lacks .* holds unknown layers\."):
        load_into(model, state, "here")
    assert converted({}, {"a": torch.zeros(1)}) == {}
