"""The job matrix: slots of a table -> cells -> runs, with the teachers that they need.

Functions of a table, a selection and a context: no run directory is read. Imports no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.data.augmentations import augmentation_info
from benchmark.data.datasets import dataset_identity, dataset_info, is_own_name
from benchmark.methods.catalog import add_plugin, method_info
from benchmark.models import check_drop_path, model_info
from benchmark.planning.own_files import FoundFile, check_given, check_read, find_file
from benchmark.planning.suited import ask_methods, check_composition
from benchmark.planning.taught import anew, distilled_methods, reference
from benchmark.run.identity import ENGINE_VERSION, DatasetRef, MethodRef, Run, TeacherRef
from benchmark.table.own_data import OwnData
from benchmark.table.own_teachers import FileOfTeacher, OwnTeacher, is_tag
from benchmark.table.recipe import Recipe, named_recipe, override
from benchmark.table.selection import Selection, accepts, nothing_matches, unknown_values
from benchmark.table.spec import Column, MethodUse, Row, Table
from benchmark.table.teachers import checkpoint_digest, registered
from benchmark.train.probes import check_probes

# Stands for facts that are not looked up.
_UNREAD = OwnData(
    num_classes=100, image_size=224, mean=(0, 0, 0), std=(1, 1, 1), num_train=10**6, num_test=1
)


@dataclass(frozen=True)
class Context:
    """Where data lies and on what kind of device the runs will be trained.

    ``files``: whether files of teachers are looked for; without, every teacher is trained.
    """

    data_dir: Path
    device: str  # "cpu" or "cuda": what `device: auto` becomes
    files: bool = True


@dataclass(frozen=True)
class Variant:
    """One cell of a slot: all its seeds. ``assignment`` is its place in a grid or sweep."""

    assignment: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def cell_key(self) -> str:
        """The key of the cell."""
        return self.runs[0].cell_key


@dataclass(frozen=True)
class Slot:
    """One (row, column) of a table with its cells; none if nothing is to be trained."""

    row: Row
    column: Column
    teacher: str
    student: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Plan:
    """A table expanded: its slots, and every run they need, teachers first.

    ``files``: where the user's own teachers lie, by sha256; ``notes``: what to know before.
    """

    table: Table
    slots: tuple[Slot, ...]
    runs: tuple[Run, ...]
    teachers: tuple[Run, ...]
    files: Mapping[str, FileOfTeacher] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that occur, in order."""
        return tuple(sorted({run.seed for run in self.runs}))


def make_plan(table: Table, selection: Selection, context: Context) -> Plan:
    """Expand a table.

    Raises UserError for unknown names and options, conflicting compositions, and selections
    that match nothing.
    """
    for path in table.plugins:
        add_plugin(Path(path))
    builder = _Builder(table, selection, context)
    slots = tuple(builder.slots())
    wanted_seeds = any(item.key == "seed" and not item.excludes for item in selection.only)
    nothing = not slots or (wanted_seeds and not any(slot.variants for slot in slots))
    if nothing or unknown_values(selection.only, builder.seen):
        raise nothing_matches(selection.only, builder.seen)
    builder.check_sweeps(slots)
    check_read(selection, builder.own if context.files else selection.teachers)
    runs = {run.key: run for slot in slots for v in slot.variants for run in v.runs}
    teachers = {key: run for key, run in builder.teachers.items() if key in builder.needed}
    runs_, teachers_ = tuple({**teachers, **runs}.values()), tuple(teachers.values())
    return Plan(table, slots, runs_, teachers_, builder.files, anew(selection, teachers_))


class _Builder:
    def __init__(self, table: Table, selection: Selection, context: Context) -> None:
        self.table = table
        self.selection = selection
        self.context = context
        self.where = f"table {table.name}"
        seeds = table.seeds if selection.seeds is None else selection.seeds
        self.seen: dict[str, set[str]] = {"seed": {str(seed) for seed in seeds}}
        self.teachers: dict[str, Run] = {}
        self._taught: dict[tuple[str, str, int], Run] = {}
        self.needed: set[str] = set()
        chosen = selection.named_recipe
        base = named_recipe(chosen, "--set") if chosen else named_recipe(table.recipe, self.where)
        self.recipe = override(base, table.recipe_overrides, f"{self.where}, recipe_overrides")
        self._datasets: dict[str, DatasetRef] = {}
        self.files: dict[str, FileOfTeacher] = {}
        self.own: dict[str, FoundFile | None] = {}
        check_given(table, selection)

    def slots(self) -> Iterator[Slot]:
        only = [item for item in self.selection.only if item.key != "seed"]
        for row, column in itertools.product(self.table.rows, self.table.columns):
            student = row.student or column.student
            teacher = row.teacher or column.teacher
            values = _selectable(row, column, teacher, student)
            for key, names in values.items():
                self.seen.setdefault(key, set()).update(names)
            if not accepts(only, values):
                continue
            slot = Slot(row, column, teacher, student, tuple(self._variants(row, column)))
            if slot.variants or row.reference or column.name in row.not_run:
                yield slot

    def _variants(self, row: Row, column: Column) -> Iterator[Variant]:
        if row.reference or column.name in row.not_run:
            return
        for assignment in self._assignments(row):
            runs = tuple(
                self._run(row, column, seed, assignment) for seed in self._seeds(row, column)
            )
            if runs:
                yield Variant(assignment, runs)

    def _seeds(self, row: Row, column: Column) -> tuple[int, ...]:
        seeds = self.selection.seeds if self.selection.seeds is not None else self.table.seeds
        own = self.context.files and self._given(row.teacher or column.teacher) is not None
        if row.of == "teacher" and (own or self.table.teacher.seed == "fixed"):
            return (0,)
        only = [item for item in self.selection.only if item.key == "seed"]
        return tuple(seed for seed in seeds if accepts(only, {"seed": [str(seed)]}))

    def _assignments(self, row: Row) -> Iterator[dict[str, Any]]:
        used = {use.name for use in row.methods}
        axes = {name: tuple(values) for name, values in row.grid.items()}
        for (method, option), values in self.selection.options.items():
            if method in used:
                axes[f"{method}.{option}"] = values
        if row.of != "teacher":
            axes |= {f"recipe.{name}": values for name, values in self.selection.students.items()}
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))

    def check_sweeps(self, slots: tuple[Slot, ...]) -> None:
        used = {use.name for slot in slots for use in slot.row.methods}
        for method, option in self.selection.options:
            method_info(method, "--set").resolve({}, "--set")
            if method not in used:
                raise UserError(
                    f"--set method.{method}.{option}: no selected row uses {method}"
                    f" (rows use {', '.join(sorted(used)) or 'no method'})"
                )

    # -- runs -------------------------------------------------------------------------------

    def _run(self, row: Row, column: Column, seed: int, assignment: Mapping[str, Any]) -> Run:
        dataset = self._dataset(column.dataset or self.table.dataset)
        where = f"{self.where}, row '{row.name}', column {column.name}"
        if row.of == "teacher":
            return self._teacher_run(dataset, row.teacher or column.teacher, seed, where)
        recipe = self._student_recipe(row, column, assignment, where)
        student = row.student or column.student
        if is_tag(student):
            raise UserError(
                f"{where}: the student {student} names weights by a tag, and students start from"
                f" their own initialisation; write {student.partition('.')[0]}"
            )
        methods = tuple(self._method(use, row, column, assignment, where) for use in row.methods)
        check_composition(methods, recipe, where, student, row)
        networks = {name for m in methods for name in method_info(m.name).networks(m.options)}
        pair = (row.teacher or column.teacher) if "pair" in networks else None
        teacher = None
        if any(method_info(m.name).needs_teacher for m in methods):
            model = row.teacher or column.teacher
            teacher = self._teacher(dataset, model, seed, where, recipe)
        elif row.teacher and pair is None:
            raise UserError(
                f"{where}: it names the teacher {row.teacher}, and"
                f" {' + '.join(m.name for m in methods) or 'a row without methods'} takes none"
            )
        return self._make(
            dataset,
            student,
            recipe,
            seed,
            where,
            teacher=teacher,
            methods=methods,
            ce_weight=row.ce_weight,
            predict=row.predict,
            reported=row.reported,
            pair=pair,
            networks=networks,
        )

    def _student_recipe(
        self, row: Row, column: Column, assignment: Mapping[str, Any], where: str
    ) -> Recipe:
        recipe = override(self.recipe, self._changes(column.recipe), f"{where}, column recipe")
        recipe = override(recipe, self._changes(row.recipe), f"{where}, row recipe")
        own = self._changes(row.recipe_per_column.get(column.name, {}))
        recipe = override(recipe, own, where)
        prefix = "recipe."
        swept = {k[len(prefix) :]: v for k, v in assignment.items() if k.startswith(prefix)}
        recipe = override(recipe, swept, where)
        return override(recipe, self.selection.recipe, "--set")

    def _changes(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a part's changes of the recipe: one that is named with --set replaces theirs."""
        if self.selection.named_recipe is None:
            return fields
        return {name: value for name, value in fields.items() if name != "from"}

    def _method(
        self,
        use: MethodUse,
        row: Row,
        column: Column,
        assignment: Mapping[str, Any],
        where: str,
    ) -> MethodRef:
        info = method_info(use.name, where)
        options = {**use.options, **row.per_column.get(column.name, {}).get(use.name, {})}
        for name, value in assignment.items():
            method, _, option = name.partition(".")
            if method == use.name:
                options[option] = value
        resolved = info.resolve(options, where)
        return MethodRef(name=info.name, version=info.version, options=resolved)

    def _teacher(
        self, dataset: DatasetRef, model: str, seed: int, where: str, recipe: Recipe
    ) -> TeacherRef:
        run = self._teacher_run(dataset, model, seed, where)
        if run.weights is None:
            self.needed.add(run.key)
            self.needed.update(self._ancestors(run))
        return reference(run, recipe, where)

    def _ancestors(self, run: Run) -> Iterator[str]:
        while run.teacher is not None and run.teacher.source == "train":
            yield run.teacher.key
            run = self.teachers[run.teacher.key]

    def _teacher_run(
        self,
        dataset: DatasetRef,
        model: str,
        seed: int,
        where: str,
        students: tuple[str, ...] = (),
    ) -> Run:
        """Return the run that gives a teacher: an evaluation if its checkpoint is there."""
        asked = (dataset.name, model, seed)
        if asked not in self._taught:
            self._taught[asked] = self._new_teacher(dataset, model, seed, where, students)
        return self._taught[asked]

    def _new_teacher(
        self, dataset: DatasetRef, model: str, seed: int, where: str, students: Sequence[str]
    ) -> Run:
        if model in students:
            chain = " -> ".join((*students[students.index(model) :], model))
            raise UserError(f"{where}: teachers teach each other in a cycle ({chain})")
        policy = self.table.teacher
        own = self._own_file(model)
        seed = 0 if policy.seed == "fixed" or own is not None else seed
        recipe = override(
            self.recipe, self._changes(policy.recipe), f"{self.where}, teacher.recipe"
        )
        recipe = override(recipe, self.selection.recipe, "--set")
        if own is not None:
            run = self._make(
                dataset, model, recipe, seed, where, weights=own.sha256, reads=own.reads
            )
            return self.teachers.setdefault(run.key, run)
        distilled = policy.distilled.get(model)  # what a table spells out wins over any file
        public = policy.from_ == "registry" and distilled is None
        known = registered(dataset.name, model) if public else None
        weights = checkpoint_digest(known) if known else None
        if weights is not None:  # its accuracy was measured on the images as they are
            recipe = recipe.model_copy(update={"input_size": None})
        teacher = None
        methods: tuple[MethodRef, ...] = ()
        if distilled is not None:
            methods = distilled_methods(distilled, model, where)
            check_composition(methods, recipe, f"{where}, teacher {model}", model)
            above = self._teacher_run(dataset, distilled.teacher, seed, where, (*students, model))
            teacher = reference(above, recipe, f"{where}, teacher {model}")
        run = self._make(
            dataset, model, recipe, seed, where, weights=weights, teacher=teacher, methods=methods
        )
        return self.teachers.setdefault(run.key, run)

    def _given(self, model: str) -> OwnTeacher | None:
        return self.selection.teachers.get(model) or self.table.teacher.file_of(model)

    def _own_file(self, model: str) -> FoundFile | None:
        """Return the user's own file of a teacher, None if another kind of teacher is meant."""
        if not self.context.files:
            return None
        if model not in self.own:
            given = self._given(model)
            chosen = model in self.selection.teachers
            where = "--teacher" if chosen else f"{self.where}, teacher.files"
            self.own[model] = None if given is None else find_file(model, given, where)
        if (found := self.own[model]) is not None:
            self.files[found.sha256] = found.file
        return found

    def _make(
        self,
        dataset: DatasetRef,
        model: str,
        recipe: Recipe,
        seed: int,
        where: str,
        networks: Iterable[str] = (),
        **rest: Any,
    ) -> Run:
        teacher: TeacherRef | None = rest.get("teacher")
        models = [model] + ([teacher.model] if teacher else [])
        models += [rest["pair"]] if rest.get("pair") else []
        models += sorted({*networks} - {"student", "pair", *models})
        built = {model, *models[2 if teacher else 1 :]}  # whatever is trained
        versions = {f"model:{name}": model_info(name, where).version for name in models}
        versions["engine"] = ENGINE_VERSION
        versions["augmentation"] = augmentation_info(recipe.augmentation, where).version
        check_drop_path(model, recipe.drop_path, where)
        for name in recipe.per_model:
            model_info(name, f"{where}, recipe.per_model")
        device = self.context.device if recipe.device == "auto" else recipe.device
        own = {name: s for name, s in recipe.per_model.items() if name in models}
        fixed: dict[str, Any] = {"device": device, "per_model": own}
        if rest.get("weights") or not any("norm_updates" in model_info(m).takes for m in built):
            fixed["norm_updates"] = Recipe.model_fields["norm_updates"].default  # it moves nothing
        if device == "cpu":
            fixed["tf32"] = Recipe.model_fields["tf32"].default
        recipe = recipe.model_copy(update=fixed)
        check_probes(recipe.probes, f"{where}, recipe.probes")
        run = Run(dataset=dataset, model=model, recipe=recipe, seed=seed, versions=versions, **rest)
        ask_methods(run, where)
        return run

    def _dataset(self, name: str) -> DatasetRef:
        if name in self._datasets:
            return self._datasets[name]
        # Of the user's own nothing is known while files are not read: a table filled from runs
        # takes their data as it was, see results/assign.py.
        if not self.context.files and is_own_name(name):
            found = DatasetRef(name=name, digest="", own=_UNREAD)
        else:
            dataset_info(name, self.where, self.context.data_dir)
            found = DatasetRef(**dataset_identity(name, self.context.data_dir))
        return self._datasets.setdefault(name, found)


def _selectable(row: Row, column: Column, teacher: str, student: str) -> dict[str, list[str]]:
    methods = [use.name for use in row.methods]
    return {
        "row": [row.name],
        "column": [column.name],
        "teacher": [teacher],
        "student": [student],
        "method": ["+".join(methods)] if methods else [],  # exactly these; uses= any with it
        "uses": methods,
    }
