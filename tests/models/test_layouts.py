"""Checkpoints under other projects' names load, and what no rule knows is named."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into
from benchmark.models.layouts import converted

PREFIXES = {
    "DataParallel": "module.",
    "torch.compile": "_orig_mod.",
    "compiled, then DataParallel": "module._orig_mod.",
    "DataParallel, then compiled": "_orig_mod.module.",
    "Lightning": "model.",
    "Lightning, compiled": "model._orig_mod.",
    "a distiller's own copy": "student.",
    "mdistiller's distiller": "module.student.",
    "one of RepDistiller's list": "model_s.",
    "nn.Sequential": "0.",
    "nn.Sequential after a normalisation without buffers": "1.",
    "nested": "system.networks.0.",
    "net": "net.",
    "network": "network.",
    "encoder": "encoder.",
    "MMEngine": "backbone.",
    "transformers": "timm_model.",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_what_stands_before_all_names_is_taken_off(prefix: str) -> None:
    model = build_model("resnet8", 10)
    state = {f"{prefix}{k}": v + 1 for k, v in model.state_dict().items()}
    load_into(model, state, "here")
    assert all(torch.equal(v, state[f"{prefix}{k}"]) for k, v in model.state_dict().items())


def test_an_average_of_torch_loads() -> None:
    model = build_model("resnet8", 10)
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    for _ in range(2):
        torch.nn.init.constant_(model.fc.bias, 3.0)
        average.update_parameters(model)
    fresh = build_model("resnet8", 10)
    load_into(fresh, average.state_dict(), "here")
    assert torch.equal(fresh.fc.bias, torch.full((10,), 3.0))


@pytest.mark.parametrize(
    ("chosen", "other"),
    [
        ("model_s.", "model_t."),
        ("module.student.", "module.teacher."),
        ("student.", "criterion."),
        ("net.", "ema_net."),
    ],
)
def test_a_network_among_others_is_refused_with_the_line_that_keeps_it(
    chosen: str, other: str
) -> None:
    model = build_model("resnet8", 10)
    own = {key: value + 1 for key, value in model.state_dict().items()}
    larger = build_model("resnet14", 10).state_dict()
    state = {f"{chosen}{k}": v for k, v in own.items()}
    state |= {f"{other}{k}": v for k, v in larger.items()}
    said = refusal(model, state)
    names = {"state": state, "torch": Saver(), "NEW_FILE": ""}
    exec(line_in(said), {}, names)
    load_into(model, names["torch"].saved["model"], "here")
    assert torch.equal(model.fc.bias, own["fc.bias"])


def test_two_copies_of_a_network_are_both_named() -> None:
    model = build_model("resnet8", 10)
    own = model.state_dict()
    said = refusal(model, {f"{p}{k}": v for p in ("model_t.", "model_s.") for k, v in own.items()})
    assert "stands in it under model_t., model_s.; keep one" in said


def test_a_network_under_names_of_its_own_is_refused_with_the_line_that_renames_it() -> None:
    model = build_model("resnet8", 10)
    own = {key: value + 1 for key, value in model.state_dict().items()}
    state = {f"layer_{number}": value for number, value in enumerate(own.values())}
    said = refusal(model, state)
    names = {"state": state, "network": model, "torch": Saver(), "NEW_FILE": ""}
    exec(line_in(said), {}, names)
    load_into(model, names["torch"].saved["model"], "here")
    assert torch.equal(model.fc.bias, own["fc.bias"])


class Saver:
    """Keeps what torch.save would write."""

    saved: dict[str, Any]

    def save(self, content: dict[str, Any], path: str) -> None:
        self.saved = content


def refusal(model: nn.Module, state: dict[str, Tensor]) -> str:
    with pytest.raises(UserError, match="does not fit the model") as error:
        load_into(model, state, "here")
    assert "\n" not in str(error.value)
    return str(error.value)


def line_in(message: str) -> str:
    """The line of Python that a message gives."""
    return message[message.index("torch.save(") :]


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
    state = {f"{k}_": v for k, v in reversed(model.state_dict().items())}
    with pytest.raises(UserError, match=r"lacks .* holds unknown fc\.bias_"):
        load_into(model, state, "here")
    assert converted({}, {"a": torch.zeros(1)}) == {}
