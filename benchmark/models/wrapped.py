"""Any network of torch as a :class:`Model`: its maps are caught as they come out of its modules."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.models.features import Features, Model

_PREFIX = "network."


def wrap(network: nn.Module, *, stages: Sequence[str], head: str) -> Model:
    """Return a network with features, from one whose ``forward`` returns logits [B, K].

    ``stages`` names the modules (as in ``named_modules``) whose outputs are the maps
    [B, C, H, W] or [B, N, C], the stem first; ``head`` the linear layer whose input is the pooled
    vector and whose output are the logits. What follows a stage's last activation is not known,
    so maps from before it are the stages themselves. Keys of weights stay the network's own.

    Raises UserError if there are no modules of these names, or the head is not linear.
    """
    return WrappedNetwork(network, tuple(stages), head)


class WrappedNetwork(Model):
    """A network whose stages and head are known by the names of its modules."""

    def __init__(self, network: nn.Module, stages: tuple[str, ...], head: str) -> None:
        super().__init__()
        modules = dict(network.named_modules())
        for name in (*stages, head):
            if name not in modules:
                raise UserError(
                    f"{type(network).__name__} has no module '{name}' (it has"
                    f" {', '.join(list(modules)[1:9])}, ...)"
                )
        if not isinstance(modules[head], nn.Linear):
            raise UserError(f"'{head}' of {type(network).__name__} is not one linear layer")
        if not stages:
            raise UserError(f"{type(network).__name__}: name at least one stage")
        self.network = network
        self._stages, self._head = stages, head
        self._averages: bool | None = None
        self.register_state_dict_post_hook(_bare)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_prefixed)  # type: ignore[no-untyped-call]

    def features(self, images: Tensor) -> Features:
        """Run the network on [B, 3, H, W], and take its maps on the way."""
        found: dict[str, Any] = {}
        hooks = [
            self.network.get_submodule(name).register_forward_hook(_catch(found, name))
            for name in self._stages
        ]
        pooling = self.head.register_forward_pre_hook(_catch_input(found))
        try:
            logits = self.network(images)
        finally:
            for hook in (*hooks, pooling):
                hook.remove()
        missing = [name for name in (*self._stages, "") if not isinstance(found.get(name), Tensor)]
        if missing or not isinstance(logits, Tensor):
            raise UserError(
                f"{type(self.network).__name__} gives no tensor"
                f" {f'at {missing[0] or self._head}' if missing else 'of logits'}"
            )
        stages, pooled = tuple(found[name] for name in self._stages), found[""]
        return Features(logits, pooled, stages, stages, self._last_map(stages[-1], pooled))

    def _last_map(self, last: Tensor, pooled: Tensor) -> Tensor | None:
        """Return the last map if its mean is what the head reads, which is seen once."""
        if last.dim() != 4 or last.shape[:2] != pooled.shape:
            return None
        if self._averages is None:
            if last.is_meta or not len(last):
                return None
            with torch.no_grad():
                mean = last.mean((2, 3))
                self._averages = torch.allclose(mean, pooled, rtol=1e-2, atol=1e-3)
        return last if self._averages else None

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        found = self.network.get_submodule(self._head)
        assert isinstance(found, nn.Linear)
        return found

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Raise UserError: which batch norms end before a ReLU is not known."""
        raise UserError(
            f"{type(self.network).__name__} does not say which batch norms end before its ReLUs;"
            " methods that read them need a network that defines batch_norms_before_relu"
        )


def _catch(found: dict[str, Any], name: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        found[name] = output

    return hook


def _catch_input(found: dict[str, Any]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[""] = inputs[0]

    return hook


def _bare(module: nn.Module, state: MutableMapping[str, Any], prefix: str, metadata: Any) -> None:
    """Give the state_dict the network's own keys."""
    for key in [key for key in state if key.startswith(prefix + _PREFIX)]:
        state[prefix + key.removeprefix(prefix + _PREFIX)] = state.pop(key)


def _prefixed(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + _PREFIX + key.removeprefix(prefix)] = state.pop(key)
