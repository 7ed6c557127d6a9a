"""Which entry of a checkpoint is the network's state_dict.

Training scripts save a network among other things and give it names of their own: ``model``
(mdistiller, RepDistiller, DeiT), ``state_dict`` (timm, Lightning, MMEngine), ``net``,
``model_state_dict``, ``module`` (DeepSpeed), ... A file with one network is read whatever its name;
of one with several, such as the averaged weights beside the last ones, nothing says which was
evaluated, so it is refused with the line that keeps one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.base.errors import UserError

# Where files keep the state_dict as a rule; a file may also be a state_dict itself.
_USUAL = ("model", "state_dict", "net")
# A state_dict lies at most so deep in a file: {"checkpoint": {"state_dict": {...}}}.
_DEEPEST = 2


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state_dict in what a file held, under the names that it has there.

    Raises UserError if there is none, or several that differ.
    """
    state = _chosen(content, path)
    if not isinstance(state, Mapping) or not state:
        looked = ", ".join(f"'{name}'" for name in _USUAL)
        raise UserError(f"checkpoint {path} holds no state_dict (looked under {looked})")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f"checkpoint {path} holds no state_dict: its entry {key!r:.80} is a "
                f"{type(value).__name__}, not a tensor; keep its tensors, where state is what"
                " holds them: torch.save({'model': {k: v for k, v in state.items() if"
                " torch.is_tensor(v)}}, NEW_FILE)"
            )
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise UserError(f"checkpoint {path}: tensor {key!r:.80} is not a plain dense tensor")
    return {key: value.detach() for key, value in state.items()}


def _chosen(content: Any, path: Path) -> Any:
    """Return the entry that holds the network, and the content itself if no entry does."""
    if not isinstance(content, Mapping) or any(isinstance(v, Tensor) for v in content.values()):
        return content
    usual = next((key for key in _USUAL if isinstance(content.get(key), Mapping)), None)
    states = dict(_states(content, ()))
    first = next((keys for keys in states if keys[0] == usual), None)
    if usual is not None and first is None:
        return content[usual]
    if first is not None and len(first) == 1:  # what lies beside it may be of another kind
        states = {k: state for k, state in states.items() if _keys(state) == _keys(states[first])}
    rivals = [keys for keys in states if keys != first]
    if first is None:
        ambiguous = len(rivals) > 1
    else:
        ambiguous = not all(_equal(states[keys], states[first]) for keys in rivals)
    if ambiguous:
        named = [f"[{']['.join(map(repr, keys))}]" for keys in states]
        raise UserError(
            f"checkpoint {path} holds weights under {', '.join(f'{n:.80}' for n in named[:3])}, and"
            " nothing says which are meant; keep one of them:"
            f" torch.save({{'model': torch.load(FILE){named[0]}}}, NEW_FILE)"
        )
    return next(iter(states.values()), content)


def _keys(state: Mapping[str, Tensor]) -> set[str]:
    """Return the names of a network's tensors, without what averaging adds to them."""
    return {key.removeprefix("module.") for key in state} - {"n_averaged"}


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Say whether two states of one network hold the same numbers."""
    first, second = ({k.removeprefix("module."): v for k, v in s.items()} for s in (one, other))
    return all(
        k in second and _is_whole(first[k]) and _is_whole(second[k]) and first[k].equal(second[k])
        for k in _keys(one)
    )


def _is_whole(tensor: Tensor) -> bool:
    """Say whether a tensor has a number in the file for each that it claims to have."""
    return tensor.layout is torch.strided and tensor.nbytes <= tensor.untyped_storage().nbytes()


def _states(content: Mapping[Any, Any], keys: tuple[Any, ...]) -> Any:
    """Yield the mappings of tensors in ``content`` with the keys that lead to them."""
    for key, value in content.items():
        if not isinstance(value, Mapping) or not value:
            continue
        if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
            yield (*keys, key), value
        elif len(keys) + 1 < _DEEPEST:
            yield from _states(value, (*keys, key))
