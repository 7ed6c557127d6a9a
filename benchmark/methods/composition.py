"""Which methods can stand in one row: the rules, for planning and for training alike.

Imports no torch. Planning asks with what the files declare, training with the built methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.base.errors import UserError, unknown

STUDENT = "student"


@dataclass(frozen=True)
class RowPart:
    """What a row's other parts have to know of one method, at its options."""

    name: str
    ce_weight: float
    predicts: bool
    ruled: bool
    clips: bool
    turns: bool
    uses_images: bool
    evaluates: tuple[str, ...]
    reported: str


@dataclass(frozen=True)
class Composition:
    """What a row settles: places in its methods, None if none of them does it.

    ``outputs``: what is evaluated beside the prediction; ``reported``: what the table prints.
    """

    ce_weight: float
    predicting: int | None
    ruled: int | None
    turning: int | None
    outputs: tuple[str, ...]
    reported: str


def compose(
    parts: Sequence[RowPart],
    ce_weight: float | None = None,
    predict: str | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    reported: str | None = None,
) -> Composition:
    """Return what a row of methods does together.

    ``ce_weight``, ``predict`` and ``reported`` are the row's own word. Raises UserError where
    parts contradict each other and the row does not settle it.
    """
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise UserError(f"a method stands in the row more than once ({', '.join(names)})")
    ruled = _one(parts, "ruled", "replace the optimiser step")
    turning = _one(parts, "turns", "take turns of their own")
    if ruled is not None and turning is not None:
        raise UserError(
            f"{parts[ruled].name} replaces the optimiser step and {parts[turning].name} takes"
            " several; a row can have one of them"
        )
    if ruled is not None and clip_norm and not parts[ruled].clips:
        raise UserError(
            f"{parts[ruled].name} replaces the optimiser step, so the recipe's clip_norm"
            f" {clip_norm:g} would not apply; set recipe.clip_norm to null, or clip by an option"
            " of the method if it has one"
        )
    own_steps = [part.name for part in parts if part.ruled or part.turns]
    if own_steps and accumulate > 1:
        raise UserError(
            f"{own_steps[0]} replaces the optimiser step, so batches cannot be accumulated; set"
            " recipe.accumulate to 1"
        )
    blind = [part.name for part in parts if not part.uses_images]
    if blind and len(parts) > 1:
        raise UserError(f"{blind[0]} trains without images, so it must stand in a row alone")
    outputs, chosen = _outputs(parts, reported)
    return Composition(
        ce_weight=_ce_weight(parts, ce_weight),
        predicting=_predicting(parts, predict),
        ruled=ruled,
        turning=turning,
        outputs=outputs,
        reported=chosen,
    )


def _one(parts: Sequence[RowPart], trait: str, does: str) -> int | None:
    found = [i for i, part in enumerate(parts) if getattr(part, trait)]
    if len(found) > 1:
        listed = " and ".join(parts[i].name for i in found)
        raise UserError(f"{listed} each {does}; a row can have one of them")
    return found[0] if found else None


def _ce_weight(parts: Sequence[RowPart], given: float | None) -> float:
    weights = {part.name: part.ce_weight for part in parts}
    if given is not None:
        return given
    if len(set(weights.values())) > 1:
        listed = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        raise UserError(
            f"the methods disagree on the cross-entropy's weight ({listed});"
            " set ce_weight in the row"
        )
    return next(iter(weights.values()), 1.0)


def _predicting(parts: Sequence[RowPart], given: str | None) -> int | None:
    places = {part.name: i for i, part in enumerate(parts) if part.predicts}
    if given is None and len(places) > 1:
        raise UserError(
            f"{' and '.join(places)} each bring their own prediction; name one as predict in the"
            " row"
        )
    if given is not None and given not in places:
        raise unknown("method with a prediction of its own", given, places)
    return places[given] if given is not None else next(iter(places.values()), None)


def _outputs(parts: Sequence[RowPart], given: str | None) -> tuple[tuple[str, ...], str]:
    outputs = [name for part in parts for name in part.evaluates]
    if len({STUDENT, *outputs}) <= len(outputs):
        raise UserError(f"two outputs of the row have one name ({', '.join([STUDENT, *outputs])})")
    wanted = {part.reported for part in parts} - {STUDENT}
    if given is None and len(wanted) > 1:
        raise UserError(
            f"the methods report {' and '.join(sorted(wanted))}; name one as reported in the row"
        )
    chosen = given if given is not None else next(iter(wanted), STUDENT)
    if chosen not in (STUDENT, *outputs):
        raise unknown("output", chosen, [STUDENT, *outputs])
    return tuple(outputs), chosen


def undivided(keeps_memory: bool, turns: bool, uses_images: bool) -> str | None:
    """Return why replicas cannot share the steps of such a method, if they cannot."""
    if not uses_images:
        return "trains without images, which replicas would share"
    if keeps_memory:
        return "keeps a memory of images that replicas would each fill with a part of them"
    if turns:
        return "takes several updates a step, which replicas do not take together yet"
    return None
