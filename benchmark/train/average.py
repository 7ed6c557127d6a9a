"""An exponential average of a network's weights and buffers, kept beside the trained ones.

timm's ModelEmaV3 (utils/model_ema.py): every floating tensor of the state moves by 1 - decay of
its way to the trained one, batch-norm statistics too; integer counters are copied. DeiT's older
ModelEma gives the same weights and truncates the counters, which no evaluation reads.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmark.table.recipe import Averaging


class Average:
    """Follows modules as they are trained."""

    def __init__(self, settings: Averaging, *modules: nn.Module) -> None:
        self._settings = settings
        # In one go: a method that looks at the student looks at its average then.
        self.modules = tuple(copy.deepcopy(list(modules)))
        for module in self.modules:
            module.eval()
            module.requires_grad_(False)
        self.steps = 0

    def decay(self, step: int) -> float:
        """Return the decay of update ``step``, from 1: timm's warm-up if it is asked for."""
        if not self._settings.warmup:
            return self._settings.decay
        waited = step - 1
        if waited <= 0:
            return 0.0
        return max(0.0, min(1 - float((1 + waited) ** (-2 / 3)), self._settings.decay))

    @torch.no_grad()
    def update(self, *modules: nn.Module) -> None:
        """Move towards ``modules``, given in the order of the constructor, after a step."""
        self.steps += 1
        towards = 1 - self.decay(self.steps)
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for average, module in zip(self.modules, modules, strict=True):
            pairs = zip(tensors(average), tensors(module), strict=True)
            for own, trained in pairs:
                if own.is_floating_point():
                    averages.append(own)
                    values.append(trained)
                else:
                    own.copy_(trained)
        torch._foreach_lerp_(averages, values, towards)

    def state(self) -> dict[str, object]:
        """Return what a resume needs."""
        return {"steps": self.steps, "modules": [m.state_dict() for m in self.modules]}

    def load(self, state: dict[str, object]) -> None:
        """Continue from :meth:`state`."""
        saved = state["modules"]
        assert isinstance(saved, list)
        for module, own in zip(self.modules, saved, strict=True):
            module.load_state_dict(own)
        steps = state["steps"]
        assert isinstance(steps, int)
        self.steps = steps


def tensors(module: nn.Module) -> list[Tensor]:
    """Return a module's parameters and buffers, those that its state leaves out as well."""
    return [*module.parameters(), *module.buffers()]
