"""What a run says of its teacher, and a teacher's run of its own. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.base.errors import UserError
from benchmark.base.words import count
from benchmark.data.datasets import described
from benchmark.methods.catalog import method_info
from benchmark.run.identity import MethodRef, Run, TeacherRef
from benchmark.table.recipe import Recipe
from benchmark.table.selection import Selection
from benchmark.table.spec import DistilledTeacher


def reference(teacher: Run, recipe: Recipe, where: str) -> TeacherRef:
    """Return how a student's run names its teacher, which reads images at its own size.

    Raises UserError for a teacher that is trained on other crops than its student sees. What is
    evaluated alone has no crops of its own: it reads the student's.
    """
    own = teacher.recipe.input_size
    usual = described(teacher.dataset.name, teacher.dataset.own).image_size
    theirs, ours = teacher.recipe.crop_size or usual, recipe.crop_size or usual
    if teacher.weights is None and theirs != ours:
        raise UserError(
            f"{where}: the teacher {teacher.model} is trained on crops of {theirs} pixels and its"
            f" student reads images cropped to {ours}; set teacher.recipe.crop_size, too, or"
            " recipe.input_size of the student in the place of its crop_size"
        )
    return TeacherRef(
        model=teacher.model,
        source=("file" if teacher.reads else "registry") if teacher.weights else "train",
        key=teacher.weights or teacher.key,
        reads=teacher.reads,
        input_size=None if own == recipe.input_size else own or "data",
    )


def distilled_methods(distilled: DistilledTeacher, model: str, where: str) -> tuple[MethodRef, ...]:
    """Return the methods by which a teacher is itself taught; UserError for one that predicts."""
    infos = [(method_info(use.name, where), use) for use in distilled.methods]
    predicting = [info.name for info, _ in infos if info.overrides_predict]
    if predicting:
        raise UserError(
            f"{where}: {model} cannot teach what {predicting[0]} makes of it: what is evaluated"
            f" there is {predicting[0]}'s own prediction, and students are taught by the"
            " network's classifier; distil this teacher by another method"
        )
    return tuple(
        MethodRef(name=i.name, version=i.version, options=i.resolve(u.options, where))
        for i, u in infos
    )


def anew(selection: Selection, teachers: Sequence[Run]) -> tuple[str, ...]:
    """Say that what is set of a recipe makes other teachers, which are trained first."""
    fields = [f"recipe.{name}" for name in selection.recipe if name not in Recipe.unhashed]
    fields += ["recipe"] if selection.named_recipe else []
    if not fields or not teachers:
        return ()
    return (
        f"--set {', '.join(fields)} reaches {count(len(teachers), 'teacher')}, too, trained anew"
        " by it; --set student.recipe.FIELD=VALUE leaves teachers as they are",
    )
