"""Several updates of one step: does the order of a turn's entries matter?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from benchmark.base.words import count
from benchmark.conformance.compare import first_difference
from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.lab import Lab
from benchmark.conformance.one_step import main_stage, make_step, observe
from benchmark.run.identity import MethodRef
from benchmark.train.losses import Turn
from benchmark.train.players import Grads, Movers
from benchmark.train.trainee import Trainee


def entries_in_any_order(lab: Lab, ref: MethodRef) -> str:
    """A turn's gradients are the same whichever of its entries comes first.

    They are taken at one point, so a difference is state that the first backward pass changes.
    """
    trainee = main_stage(lab, ref)
    if not trainee.objective.takes_turns:
        return "one update a step"
    names = _names(trainee)
    turns, several = 0, 0
    for turn in _turns(lab, trainee):
        turns += 1
        if len(turn.entries) > 1:
            several += 1
            usual = _by_entry(trainee.players.moves(turn, keep_graph=True), names)
            turned = Turn(tuple(reversed(turn.entries)))
            other = _by_entry(trainee.players.moves(turned, keep_graph=True), names)
            place = first_difference(usual, other)
            if place is not None:
                raise CheckFailedError(
                    f"turn {turns}: the gradient {place} differs where the entries come in the"
                    " opposite order"
                )
        trainee.players.take(turn)
    return f"{count(turns, 'turn')} a step, {several} of several entries"


def _turns(lab: Lab, trainee: Trainee) -> Any:
    seen = observe(lab, trainee)
    if trainee.uses_images:  # with a graph, unlike what was observed
        features = trainee.student.model.features(trainee.student.layout(seen.batch.images))
        seen = seen._replace(student=features)
    step = make_step(lab, trainee, seen)
    row, _ = trainee.objective.terms(step, seen.private, seen.further)
    return trainee.objective.turns(step, seen.private, seen.further, row)


def _names(trainee: Trainee) -> dict[int, str]:
    parts: Sequence[tuple[str, nn.Module]] = (
        ("the student's ", trainee.student.model),
        ("", trainee.objective.methods[0]),
    )
    return {id(p): f"{of}{name}" for of, part in parts for name, p in part.named_parameters()}


def _by_entry(
    moves: Sequence[tuple[Movers, Grads]], names: Mapping[int, str]
) -> dict[str, dict[str, Tensor | None]]:
    return {
        f"by {' and '.join(movers)}": {names[key]: grad for key, grad in found.items()}
        for movers, found in moves
    }
