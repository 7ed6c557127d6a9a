"""The optimisers of one run: the recipe's, and those that its methods have beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods.base import MAIN, Optim
from benchmark.models.features import Model
from benchmark.table.recipe import Recipe
from benchmark.train.losses import AnyMethod, Turn, gradients
from benchmark.train.optimiser import build_adam, build_optimizer, undecayed

Movers = tuple[str, ...]
Grads = Mapping[int, Tensor | None]


class _Player(NamedTuple):
    """One optimiser, what it moves, and its initial rate."""

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    lr: float
    clip_norm: float | None


class Players:
    """Holds who moves which parameters; "main" is the recipe's optimiser.

    ``parameters`` are main's: all that is trained, each once, but for what another optimiser
    claims alone.
    """

    def __init__(
        self, recipe: Recipe, student: Model, methods: nn.ModuleList, row: Sequence[AnyMethod]
    ) -> None:
        self._recipe = recipe
        trained = _once(p for module in (student, methods) for p in module.parameters())
        further = _further(row, trained)
        alone = {id(p) for o in further.values() if not o.shared for p in o.parameters}
        self.parameters = [p for p in trained if id(p) not in alone]
        self.main = build_optimizer(recipe, self.parameters, undecayed(recipe, student))
        self._all = {MAIN: _Player(self.main, self.parameters, recipe.lr, recipe.clip_norm)}
        for name, asked in further.items():
            self._all[name] = _player(recipe, asked)

    def set_rate(self, lr: float) -> None:
        """Set the main rate; the others keep their proportion to it."""
        for name, player in self._all.items():
            rate = lr if name == MAIN else player.lr * (lr / self._recipe.lr)
            for group in player.optimizer.param_groups:
                group["lr"] = rate

    def take(self, turn: Turn) -> None:
        """Update once: all gradients are taken at one point, then each mover steps, in order."""
        for movers, grads in self.moves(turn):
            for name in movers:
                self._step(self._of(name), grads)

    def moves(self, turn: Turn, keep_graph: bool = False) -> list[tuple[Movers, Grads]]:
        """Return what every entry's movers would step by: gradients by the parameter's id.

        ``keep_graph``: so that they can be taken again.
        """
        moves: list[tuple[Movers, Grads]] = []
        for place, (movers, terms) in enumerate(turn.entries, start=1):
            parameters = _once(p for name in movers for p in self._of(name).parameters)
            kept = keep_graph or place < len(turn.entries)
            found = gradients(list(terms.values()), parameters, kept)
            moves.append((movers, dict(zip(map(id, parameters), found, strict=True))))
        return moves

    @property
    def by_name(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers, the recipe's as "main"."""
        return {name: player.optimizer for name, player in self._all.items()}

    def state(self) -> dict[str, Any]:
        """Return the states of the optimisers beside the recipe's, by name."""
        return {n: p.optimizer.state_dict() for n, p in self._all.items() if n != MAIN}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`."""
        for name, saved in state.items():
            self._all[name].optimizer.load_state_dict(saved)

    def _of(self, name: str) -> _Player:
        if name not in self._all:
            raise UserError(f"a turn moves '{name}', and there are: {', '.join(self._all)}")
        return self._all[name]

    @staticmethod
    def _step(player: _Player, grads: Grads) -> None:
        for parameter in player.parameters:
            parameter.grad = grads[id(parameter)]
        if player.clip_norm is not None:
            nn.utils.clip_grad_norm_(player.parameters, player.clip_norm)
        player.optimizer.step()
        player.optimizer.zero_grad(set_to_none=True)


def _once(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return those that are trained, each at its first place alone."""
    return list({id(p): p for p in parameters if p.requires_grad}.values())


def _further(row: Sequence[AnyMethod], trained: Sequence[nn.Parameter]) -> dict[str, Optim]:
    found: dict[str, Optim] = {}
    known = {id(p) for p in trained}
    for method in row:
        for name, asked in method.optimizers().items():
            if name in found or name == MAIN:
                raise UserError(f"two optimisers of the row are named '{name}'")
            if not {id(p) for p in asked.parameters} <= known:
                raise UserError(
                    f"optimiser '{name}' moves parameters of neither the student nor a method, or"
                    " frozen ones"
                )
            found[name] = asked._replace(parameters=_once(asked.parameters))
    return found


def _player(recipe: Recipe, asked: Optim) -> _Player:
    lr = recipe.lr if asked.lr is None else asked.lr
    decay = recipe.weight_decay if asked.weight_decay is None else asked.weight_decay
    parameters = list(asked.parameters)
    optimizer: torch.optim.Optimizer
    if asked.kind == "adam":
        optimizer = build_adam(parameters, lr, decay)
    else:
        own = {"optimizer": "sgd", "lr": lr, "weight_decay": decay}
        optimizer = build_optimizer(recipe.model_copy(update=own), parameters)
    return _Player(optimizer, parameters, lr, asked.clip_norm)
