"""Checkpoints of other projects: the same networks under other names.

Names alone change here, and the shape of a classifier that is a convolution. A layout is
recognised by its keys; what no rule knows is left as it is, and loading it says which keys do not
fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]

_WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "backbone.")


def converted(state: State, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state under the names ``expected`` by the network, where a rule knows them."""
    wanted = list(expected)
    for rule in (_unwrapped, _mmpretrain, _efficientnet_lite):
        if set(state) <= set(wanted):
            break
        state = rule(state, wanted)
    return {key: _as_matrix(value, expected.get(key)) for key, value in state.items()}


def _as_matrix(value: Tensor, expected: Tensor | None) -> Tensor:
    """Return a 1x1 convolution's weights as a linear layer's, where one is wanted (BiT's head)."""
    if expected is None or expected.dim() != 2 or value.dim() != 4 or value.shape[2:] != (1, 1):
        return value
    return value.flatten(1)


def _unwrapped(state: State, wanted: list[str]) -> State:
    """Take off what DataParallel, torch.compile and training scripts put before every name."""
    for wrapper in _WRAPPERS:
        if all(key.startswith(wrapper) for key in state) and wanted[0] not in state:
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state


def _mmpretrain(state: State, wanted: list[str]) -> State:
    """mmpretrain's ResNets: ``backbone.`` before the network, ``head.fc`` for its classifier."""
    if "head.fc.weight" not in state or "fc.weight" not in wanted:
        return state
    found = {}
    for key, value in state.items():
        found[key.removeprefix("backbone.").replace("head.fc.", "fc.")] = value
    return found


_LITE = {"conv_stem": "conv_stem", "bn0": "bn1", "conv_head": "conv_head", "bn1": "bn2"}
_LITE["fc"] = "classifier"
_FIRST = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
_OTHERS = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}


def _efficientnet_lite(state: State, wanted: list[str]) -> State:
    """EfficientNets of the efficientnet_pytorch family, for timm's: blocks are counted through."""
    if "_conv_stem.weight" not in state or "conv_stem.weight" not in wanted:
        return state
    blocks = list(dict.fromkeys(m[1] for m in map(_BLOCK.match, wanted) if m))
    found = {}
    for key, value in state.items():
        inner = re.match(r"_blocks\.(\d+)\._(\w+?)\.(.+)", key)
        outer = re.match(r"_(\w+?)\.(.+)", key)
        if inner and int(inner[1]) < len(blocks):
            expands = f"_blocks.{inner[1]}._expand_conv.weight" in state
            names = _OTHERS if expands else _FIRST
            key = f"{blocks[int(inner[1])]}.{names.get(inner[2], inner[2])}.{inner[3]}"
        elif outer and outer[1] in _LITE:
            key = f"{_LITE[outer[1]]}.{outer[2]}"
        found[key] = value
    return found


_BLOCK = re.compile(r"(blocks\.\d+\.\d+)\.")
