"""Parts and copies of networks that methods keep: what follows a stage, and a frozen self."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmark.models.features import Features, Model


class Tail(Model):
    """A network from a stage on; its images are maps [B, C, H, W] of that stage.

    Holds what ``network`` needs for that alone; the rest of it is let go. Raises UserError for a
    network that cannot be cut there. ``example``: a map of the stage, of any values.
    """

    def __init__(self, network: Model, stage: int, example: Tensor) -> None:
        super().__init__()
        network.check_stage(stage)
        self.cut = stage
        self.network = network
        _keep_only(network, _used(network, stage, example))

    def features(self, images: Tensor) -> Features:
        """Return the features from the map on; ``stages[0]`` is the map."""
        return self.network.after(self.cut, images)

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return self.network.head


class Frozen(Model):
    """A copy of a network as it stands: in eval mode whatever its owner does, never trained.

    As a submodule of a method it is checkpointed and exported like every other part.
    """

    def __init__(self, network: Model) -> None:
        super().__init__()
        with torch.no_grad():
            self.network = copy.deepcopy(network)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode."""
        super().train(False)
        return self

    def features(self, images: Tensor) -> Features:
        """Return the copy's features; a gradient may reach ``images``."""
        return self.network.features(images)

    @property
    def head(self) -> nn.Linear:
        """The copy's classifier."""
        return self.network.head

    @torch.no_grad()
    def renew(self, network: Model) -> None:
        """Take over another network's weights and statistics, its form being the same."""
        self.network.load_state_dict(network.state_dict())


def _used(network: Model, stage: int, example: Tensor) -> set[int]:
    """Return the ids of the parameters that a gradient of the features after a stage reaches."""
    training = network.training
    network.eval()
    with torch.enable_grad():
        found = network.after(stage, example)
        total = torch.stack([t.float().sum() for t in (found.logits, found.pooled)]).sum()
        for tensor in (*found.stages, *found.preacts):
            total = total + tensor.float().sum()
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    network.train(training)
    pairs = zip(parameters, gradients, strict=True)
    return {id(parameter) for parameter, gradient in pairs if gradient is not None}


def _keep_only(module: nn.Module, used: set[int]) -> None:
    """Put an identity in the place of every largest part that holds no used parameter."""
    for name, child in list(module.named_children()):
        parameters = list(child.parameters())
        if not parameters:
            continue
        if any(id(parameter) in used for parameter in parameters):
            _keep_only(child, used)
        else:
            setattr(module, name, nn.Identity())
