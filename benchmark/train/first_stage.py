"""The first stages of a row's methods: epochs 0, -1, ... before the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.models.features import Model
from benchmark.table.recipe import Recipe
from benchmark.train.losses import AnyMethod, add_gradients
from benchmark.train.optimiser import build_optimizer
from benchmark.train.replicas import Found

LOSS = "loss"


class FirstStage:
    """Trains what methods train before the student's first epoch, each at a constant rate.

    Stages end together: a shorter one begins later.
    """

    def __init__(self, methods: Sequence[AnyMethod], student: Model, recipe: Recipe) -> None:
        self._methods = [(i, m, int(m.prepare_epochs)) for i, m in enumerate(methods)]
        self._methods = [entry for entry in self._methods if entry[2]]
        self.epochs = max((epochs for _, _, epochs in self._methods), default=0)
        self._optimizers: dict[int, torch.optim.Optimizer] = {}
        for index, method, _ in self._methods:
            rate = {"lr": method.prepare_lr(recipe.lr)}
            parameters = method.prepare_parameters(student)
            self._optimizers[index] = build_optimizer(recipe.model_copy(update=rate), parameters)

    def losses(
        self, epoch: int, loss_of: Callable[[AnyMethod, int], Tensor]
    ) -> Iterator[tuple[int, Tensor]]:
        """Take the step of every stage that ``epoch`` (0 is the last) belongs to.

        ``loss_of`` computes a method's loss in an epoch of its own stage, counted from 1; yields
        it with the method's place after its optimiser has stepped.
        """
        for index, method, epochs in self._methods:
            own = epoch + epochs
            if own < 1:
                continue
            loss = loss_of(method, own)
            optimizer = self._optimizers[index]
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            yield index, loss

    def divided(self, epoch: int, find: Callable[..., Found]) -> Iterator[tuple[int, Tensor]]:
        """Take the same steps by gradients that ``find`` adds up over replicas.

        It is given a method's place, the method, the epoch of its own stage and its parameters, and
        finds one list of gradients and the ``LOSS``.
        """
        for index, method, epochs in self._methods:
            own = epoch + epochs
            if own < 1:
                continue
            optimizer = self._optimizers[index]
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            found = find(index, method, own, parameters)
            optimizer.zero_grad(set_to_none=True)
            add_gradients(parameters, found.gradients[0])
            optimizer.step()
            yield index, found.values[LOSS]

    def leave(self) -> None:
        """Tell the methods that their stage is over, also after a resume past it.

        What its optimisers remember is let go.
        """
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)
            optimizer.state.clear()
        for _, method, _ in self._methods:
            method.prepared()

    def state(self) -> dict[int, Any]:
        """Return the optimisers' states, by the methods' places."""
        return {i: optimizer.state_dict() for i, optimizer in self._optimizers.items()}

    def load(self, state: dict[int, Any]) -> None:
        """Continue from :meth:`state`."""
        for index, saved in state.items():
            self._optimizers[index].load_state_dict(saved)
