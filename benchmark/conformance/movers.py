"""Who moves which parameter: the optimisers that claim it, those alone, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from benchmark.conformance.findings import CheckFailedError, listed
from benchmark.conformance.lab import Lab
from benchmark.methods.base import MAIN
from benchmark.run.identity import MethodRef
from benchmark.train.trainee import Trainee

# Enough for what is taught at the second step, or after the first epoch, alone.
EPOCHS, STEPS = 2, 2


def moved_by_who_claims_it(lab: Lab, ref: MethodRef) -> str:
    """Within a step parameters change where an optimiser steps that holds them, nowhere else.

    Over two epochs each optimiser moves all that it claims for itself. What an epoch's end or the
    end of a first stage sets is its own.
    """
    trainee = lab.start(lab.run([ref]))
    _agree(trainee)
    watch = _Mover(trainee)
    with watch.watching():
        while trainee.epoch <= EPOCHS:
            for _ in range(STEPS):
                watch.step(lab)
            trainee.end_epoch()
    watch.check_claims()
    return ", ".join(f"{name} moves {len(moved)} tensors" for name, moved in watch.moved.items())


def _agree(trainee: Trainee) -> None:
    """Refuse two optimisers of which one claims a parameter for itself."""
    asked = trainee.objective.methods[0].optimizers()
    for name, mine in asked.items():
        for other, theirs in asked.items():
            both = {id(p) for p in mine.parameters} & {id(p) for p in theirs.parameters}
            if name != other and both and not mine.shared:
                raise CheckFailedError(
                    f"optimisers '{name}' and '{other}' move the same {len(both)} tensors, and"
                    f" '{name}' does not say shared = True"
                )


class _Mover:
    """Compares parameters before and after every optimiser's step."""

    def __init__(self, trainee: Trainee) -> None:
        self._trainee = trainee
        self._method = trainee.objective.methods[0]
        self._names = {id(o): name for name, o in trainee.players.by_name.items()}
        parts: Sequence[tuple[str, nn.Module]] = (
            ("the student's ", trainee.student.model),
            ("", self._method),
        )
        self._parameters = {
            id(p): (f"{of}{name}", p) for of, part in parts for name, p in part.named_parameters()
        }
        self._last: dict[int, Tensor] = {}
        self._ruling = False
        self.moved: defaultdict[str, set[int]] = defaultdict(set)

    def step(self, lab: Lab) -> None:
        """Take a step; CheckFailedError for a parameter that no optimiser moved."""
        self._note()
        lab.step(self._trainee)
        self._unmoved()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every optimiser's step, and at a gradient rule's."""
        handles = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]
        if self._method.has_gradient_rule:
            self._method.update = self._ruled(self._method.update)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def check_claims(self) -> None:
        """Raise CheckFailedError for what an optimiser claims and does not move."""
        asked = self._method.optimizers()
        for name, optimizer in self._trainee.players.by_name.items():
            if name not in self.moved:
                raise CheckFailedError(f"no turn moves '{name}'")
            if name != MAIN and asked[name].shared:
                continue
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            if name == MAIN:  # the student's may rest: a classifier that another one replaces
                held &= {id(p) for p in self._method.parameters()}
            left = [self._parameters[key][0] for key in held - self.moved[name]]
            if left:
                raise CheckFailedError(
                    f"optimiser '{name}' claims {listed(sorted(left))}, and no gradient of a turn"
                    " that it moves by reaches them"
                )

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._ruling:
            return
        self._unmoved()
        held = [p for group in optimizer.param_groups for p in group["params"]]
        self.moved[self._name(optimizer)] |= {id(p) for p in held if p.grad is not None}

    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._ruling:
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._last[id(parameter)] = parameter.detach().clone()
        self._unmoved()

    def _ruled(self, update: Any) -> Any:
        """Return a gradient rule that counts as main's step, whoever writes the parameters."""

        def watched(
            optimizer: torch.optim.Optimizer,
            parameters: Sequence[nn.Parameter],
            rest: Sequence[Tensor | None],
            own: Sequence[Tensor | None],
        ) -> None:
            self._unmoved()
            self._ruling = True
            update(optimizer, parameters, rest, own)
            self._ruling = False
            given = zip(parameters, rest, own, strict=True)
            self.moved[MAIN] |= {id(p) for p, *grads in given if grads != [None, None]}
            self._note()

        return watched

    def _name(self, optimizer: torch.optim.Optimizer) -> str:
        if self._trainee.epoch < 1:
            return "the first stage"
        if id(optimizer) not in self._names:
            raise CheckFailedError(
                "an optimiser steps that optimizers() does not name, so that no checkpoint has it"
            )
        return self._names[id(optimizer)]

    def _note(self) -> None:
        self._last = {
            key: p.detach().clone() for key, (_, p) in self._parameters.items() if p.requires_grad
        }

    def _unmoved(self) -> None:
        changed = [
            name
            for key, (name, p) in self._parameters.items()
            if p.requires_grad and key in self._last and not torch.equal(p, self._last[key])
        ]
        if changed:
            raise CheckFailedError(
                f"{listed(changed)} changed within a step, and not by an optimiser that holds"
                f" {'it' if len(changed) == 1 else 'them'}"
            )
