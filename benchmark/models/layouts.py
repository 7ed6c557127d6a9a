"""Checkpoints of other projects: the same networks under other names.

Names alone change here, and the shape of a classifier that is a convolution. A layout is
recognised by its keys; what no rule knows is left as it is, and loading it says which keys do not
fit, and how to convert the file if that can be told (``conversion``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]

_WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "backbone.")
_COUNTER = "num_batches_tracked"
# torch's AveragedModel counts its updates beside the network that it holds.
_UPDATES = "n_averaged"


def converted(state: State, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state under the names ``expected`` by the network, if a rule knows them."""
    wanted = list(expected)
    for rule in (_unwrapped, _mmpretrain, _efficientnet_lite):
        if set(state) <= set(wanted):
            break
        state = rule(state, wanted)
    return {key: _as_matrix(value, expected.get(key)) for key, value in state.items()}


def _as_matrix(value: Tensor, expected: Tensor | None) -> Tensor:
    """Return a 1x1 convolution's weights as a linear layer's, if one is wanted (BiT's head)."""
    if expected is None or expected.dim() != 2 or value.dim() != 4 or value.shape[2:] != (1, 1):
        return value
    return value.flatten(1)


def _unwrapped(state: State, wanted: list[str]) -> State:
    """Take off what stands before every name, whatever it is, if the rest is this network.

    DataParallel (``module.``), torch.compile (``_orig_mod.``), Lightning and training scripts
    (``model.``, ``net.``, ``encoder.``, ``student.``), nn.Sequential (``0.``), one inside another.
    """
    if _UPDATES not in wanted:
        state = {key: value for key, value in state.items() if key != _UPDATES}
    for prefix in _prefixes(state, wanted):
        if all(key.startswith(prefix) for key in state):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    for wrapper in _WRAPPERS:  # around names that a later rule knows
        if all(key.startswith(wrapper) for key in state) and wanted[0] not in state:
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state


def _prefixes(state: State, wanted: list[str]) -> list[str]:
    """Return what stands before the names of the whole network, once for each that is there."""
    required = [key for key in wanted if not key.endswith(_COUNTER)]
    before = (key.removesuffix(required[0]) for key in state if key.endswith(f".{required[0]}"))
    return [prefix for prefix in before if all(f"{prefix}{key}" in state for key in required)]


def conversion(state: State, expected: Mapping[str, Tensor]) -> str:
    """Return the line that makes a file of the network out of one that does not fit it.

    If the network stands in the file among others, or under other names in its own order;
    else an empty text.
    """
    prefixes = _prefixes(state, list(expected))
    if prefixes:
        chosen = ", ".join(prefixes)
        others = sorted({f"{key.partition('.')[0]}." for key in state} - set(prefixes))
        beside = f", beside {', '.join(others[:3])}" if others else ""
        return (
            f"the network stands in it under {chosen}{beside}; keep one, where state is the file's"
            f" state_dict: torch.save({{'model': {{k.removeprefix('{prefixes[0]}'): v for k, v in"
            f" state.items() if k.startswith('{prefixes[0]}')}}}}, NEW_FILE)"
        )
    if [value.shape for value in state.values()] == [value.shape for value in expected.values()]:
        return (
            "its tensors have the network's shapes in the network's order; if they are the same"
            " layers, rename them, where state is the file's state_dict and network is"
            " benchmark.models.build_model(NAME, CLASSES): torch.save({'model':"
            " dict(zip(network.state_dict(), state.values()))}, NEW_FILE)"
        )
    return ""


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
