"""What the methods of a row ask of its runs, and what they may not be combined with.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.base.errors import UserError
from benchmark.data.augmentations import augmentation_info
from benchmark.data.datasets import described, image_side
from benchmark.methods.catalog import MethodInfo, method_info
from benchmark.methods.composition import RowPart, compose, undivided
from benchmark.methods.options import Planned
from benchmark.models import model_info
from benchmark.run.identity import MethodRef, Run
from benchmark.table.recipe import Recipe
from benchmark.table.spec import Row


def check_composition(
    methods: tuple[MethodRef, ...],
    recipe: Recipe,
    where: str,
    student: str,
    row: Row | None = None,
) -> None:
    """Refuse compositions whose parts contradict each other unless the row settles it.

    ``student``: the network that is trained, whose stages may decide what there is to evaluate.
    """
    ce_weight, predict, reported = None, None, None
    if row is not None:
        ce_weight, predict, reported = row.ce_weight, row.predict, row.reported
    try:
        parts = [_part(method, student) for method in methods]
        settled = (ce_weight, predict, recipe.clip_norm, recipe.accumulate, reported)
        compose(parts, *settled)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    readers = [m.name for m in methods if method_info(m.name).fact("uses_images", m.options)]
    if recipe.steps_per_epoch is not None and (readers or not methods):
        raise UserError(
            f"{where}: recipe.steps_per_epoch is for runs without images; an epoch of this one is"
            " its batches"
        )


def ask_methods(run: Run, where: str) -> None:
    """Let the methods' options refuse a run that they do not suit."""
    data = described(run.dataset.name, run.dataset.own)
    planned = Planned(
        student=run.model,
        num_stages=model_info(run.model).stages,
        pair=run.pair or "",
        epochs=run.recipe.epochs,
        batch_size=run.recipe.batch_size // run.recipe.replicas,
        holdout=run.recipe.holdout,
        image_size=image_side(data, run.recipe),
        num_classes=data.num_classes,
        teacher=run.teacher is not None,
        rate_cycles=getattr(run.recipe.schedule, "cycles", 1),
    )
    for method in run.methods:
        info = method_info(method.name)
        try:
            if info.fact("wants_held_out", method.options) and not planned.holdout:
                raise UserError(f"{method.name} looks at held-out images; set recipe.holdout")
            if info.companions(method.options):
                _check_companions(method.name, run.recipe)
            info.refuse(method.options, planned)
            if run.recipe.replicas > 1:
                _check_divided(info, method.options)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None


def _check_companions(name: str, recipe: Recipe) -> None:
    """Refuse a recipe whose reader has no further images of a step."""
    if "resident" not in augmentation_info(recipe.augmentation).readers:
        raise UserError(
            f"{name} sees further images of each step, which augmentation"
            f" '{recipe.augmentation}' has no reader for"
        )
    if recipe.mix is not None or recipe.repeats > 1:
        raise UserError(
            f"{name} sees further images of each step, which are neither mixed nor repeated; set"
            " recipe.mix to null and recipe.repeats to 1"
        )


def _check_divided(info: MethodInfo, options: Mapping[str, Any]) -> None:
    """Refuse a row whose steps cannot be divided between replicas."""
    reason = undivided(
        keeps_memory=bool(info.fact("keeps_memory", options)),
        turns=info.takes_turns,
        uses_images=bool(info.fact("uses_images", options)),
    )
    if reason is not None:
        raise UserError(f"{info.name} {reason}; set recipe.replicas to 1")


def _part(method: MethodRef, student: str) -> RowPart:
    info, options = method_info(method.name), method.options
    return RowPart(
        name=method.name,
        ce_weight=info.ce_weight(options),
        predicts=info.overrides_predict,
        ruled=info.has_gradient_rule(options),
        clips=info.clips_gradients(options),
        turns=info.takes_turns,
        uses_images=bool(info.fact("uses_images", options)),
        evaluates=info.evaluates(options, student),
        reported=str(info.fact("reported", options)),
    )
