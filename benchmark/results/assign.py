"""Which runs stand for which slot of a table, and what sets them apart from the table's own.

A run is a slot's own when its cell is the table's. The table leaves two things open: the device
(if a recipe says auto), and, where teachers come from the registry, whether the public
checkpoint or a teacher trained here was used; runs that differ in these are all its own, but
stand in groups of their own, by ``kind``. A run that differs in anything else belongs to the
slot that it differs least from, with every difference named. Pure; imports no torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from benchmark.planning.matrix import Context, Plan, Slot, make_plan
from benchmark.results.whose import TeacherFile, file_of
from benchmark.run.identity import Run, differences, digest
from benchmark.run.index import FoundTeacher
from benchmark.run.reading import Reading, signature
from benchmark.run.state import ENDED, RunState
from benchmark.table.selection import Only, Selection, accepts, nothing_matches
from benchmark.table.spec import Table
from benchmark.table.teachers import registered

# A table is about the official data and the cells that it describes, whatever lies on this
# machine: data that is not official makes an override, a public teacher is told by its digest.
_NO_DATA = Path("/nonexistent")
DEVICES = ("cuda", "cpu")

Place = tuple[str, str]  # row and column
Pairs = dict[str, tuple[Any, Any]]  # by dotted field: the run's value, the table's


@dataclass(frozen=True)
class Group:
    """Runs of one cell that stand for one variant of a slot; without differences, its own."""

    variant: int
    cell: str
    kind: str
    differences: Mapping[str, tuple[Any, Any]]
    runs: tuple[Reading, ...]
    evaluated: bool = False  # a checkpoint: nothing was trained
    file: TeacherFile | None = None  # what taught, or was measured, if it is a file

    @property
    def ended(self) -> int:
        """How many runs have a result, diverged ones included."""
        return sum(run.state in ENDED for run in self.runs)

    @cached_property
    def finished(self) -> tuple[Reading, ...]:
        """The runs with values, one a seed, in order of seed."""
        by_seed = {run.seed: run for run in reversed(self.runs) if run.state is RunState.DONE}
        return tuple(by_seed[seed] for seed in sorted(by_seed))

    @property
    def unlikeness(self) -> str:
        """The differences as text: groups that share it are overridden alike."""
        return repr(sorted((name, repr(theirs)) for name, (theirs, _) in self.differences.items()))


@dataclass(frozen=True)
class _Template:
    """A variant of a slot as the table describes it, on each device."""

    place: Place
    variant: int
    runs: tuple[Run, ...]  # by device
    any_device: bool
    any_teacher: bool
    is_teacher: bool

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The cell's identity without what the table leaves open."""
        return self.stripped(self.runs[0].cell_identity)

    @cached_property
    def digest(self) -> str:
        """What a cell must have in common with this one to be its own."""
        return digest(self.identity)

    def is_own(self, stripped: Mapping[str, Any]) -> bool:
        """Tell whether a cell, without what the table leaves open, is this one's."""
        # 1 and 1.0 have two digests; whatever is unequal has too, and is told faster.
        return stripped == self.identity and digest(stripped) == self.digest

    @property
    def leaves_open(self) -> tuple[bool, bool]:
        """What decides how a cell's identity is stripped."""
        return self.any_device, self.any_teacher and self.is_teacher

    def stripped(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return a cell's identity without what this table leaves open."""
        found = dict(identity)
        if "own" in found["dataset"]:  # the user's own data is whatever they wrote under its name
            found["dataset"] = {"name": found["dataset"]["name"]}
        if self.any_device:
            found["recipe"] = {k: v for k, v in found["recipe"].items() if k != "device"}
        if self.any_teacher and found["teacher"] is not None:
            found["teacher"] = {"model": found["teacher"]["model"]}
        if self.any_teacher and self.is_teacher:
            found["weights"] = None
            found.pop("reads", None)
        return found


@dataclass
class Expected:
    """What a table consists of: its slots, the seeds of each, and how its runs are told."""

    table: Table
    slots: tuple[Slot, ...]
    seeds: tuple[int, ...]
    only_seeds: Callable[[int], bool]
    templates: dict[str, list[_Template]] = field(default_factory=dict)  # by signature
    teachers: dict[str, Run] = field(default_factory=dict)  # by key, of all devices

    def planned(self, slot: Slot) -> int:
        """Return how many seeds the table wants in a slot."""
        if not slot.variants:
            return 0
        return 1 if self._one_teacher(slot) else len(self.seeds)

    def _one_teacher(self, slot: Slot) -> bool:
        policy = self.table.teacher
        one = policy.seed == "fixed" or policy.file_of(slot.teacher) is not None
        return slot.row.of == "teacher" and one

    def counts(self, slot: Slot, seed: int) -> bool:
        """Tell whether a run of that seed may stand in a slot."""
        return seed == 0 if self._one_teacher(slot) else self.only_seeds(seed)


def selected(table: Table, chosen: Selection) -> frozenset[Place]:
    """Return the places that ``chosen`` names, seeds aside. Raises UserError without any."""
    only = tuple(item for item in chosen.only if item.key != "seed")
    if not only:
        return frozenset((row.name, column.name) for row in table.rows for column in table.columns)
    one = Selection(only=only, seeds=table.seeds[:1])
    slots = make_plan(_trained(table), one, Context(_NO_DATA, DEVICES[0], files=False)).slots
    return frozenset((slot.row.name, slot.column.name) for slot in slots)


def expect(table: Table, chosen: Selection) -> Expected:
    """Return what the table consists of, with the seeds of ``chosen`` alone.

    Raises UserError if no seed is left.
    """
    only = [item for item in chosen.only if item.key == "seed"]
    given = chosen.seeds
    possible = table.seeds if given is None else given
    seeds = tuple(seed for seed in possible if _accepts(only, seed))
    if not seeds:
        raise nothing_matches(only, {"seed": [str(seed) for seed in possible]})
    # One seed is enough to know a cell; the teacher of another seed is worked out from it.
    first = Selection(seeds=seeds[:1])
    contexts = [Context(_NO_DATA, device, files=False) for device in DEVICES]
    plans = [make_plan(_trained(table), first, context) for context in contexts]
    expected = Expected(
        table,
        plans[0].slots,
        seeds,
        cache(lambda seed: (given is None or seed in given) and _accepts(only, seed)),
        teachers={run.key: run for plan in plans for run in plan.runs},
    )
    for template in _templates(table, plans):
        expected.templates.setdefault(signature(template.runs[0]), []).append(template)
    return expected


def _accepts(only: Sequence[Only], seed: int) -> bool:
    return accepts(only, {"seed": [str(seed)]})


def _trained(table: Table) -> Table:
    policy = table.teacher.model_copy(update={"from_": "train"})
    return table.model_copy(update={"teacher": policy})


def _templates(table: Table, plans: Sequence[Plan]) -> Iterable[_Template]:
    for slots in zip(*(plan.slots for plan in plans), strict=True):
        for number, variants in enumerate(zip(*(slot.variants for slot in slots), strict=True)):
            runs = tuple(variant.runs[0] for variant in variants)
            yield _Template(
                (slots[0].row.name, slots[0].column.name),
                number,
                runs,
                any_device=len({run.recipe.device for run in runs}) > 1,
                any_teacher=table.teacher.from_ == "registry",
                is_teacher=slots[0].row.of == "teacher",
            )


def assign(
    expected: Expected,
    cells: Mapping[str, tuple[str, dict[str, Any]]],
    runs: Iterable[Reading],
    teacher_of: Callable[[str], FoundTeacher | None],
) -> dict[Place, list[Group]]:
    """Sort runs into groups by slot.

    ``cells``: signature and identity by cell key; ``teacher_of`` finds a teacher's run by its
    key, None if that is not there.
    """
    slots = {(slot.row.name, slot.column.name): slot for slot in expected.slots}
    by_cell: dict[str, list[Reading]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.seed, run.key)):
        by_cell[run.cell].append(run)
    teachers = _Teachers(expected, teacher_of)
    groups: dict[Place, list[Group]] = defaultdict(list)
    for cell, members in sorted(by_cell.items()):
        where, identity = cells[cell]
        for template, pairs in _matching(expected.templates.get(where, ()), identity):
            slot = slots[template.place]
            mine = [run for run in members if expected.counts(slot, run.seed)]
            groups[template.place] += _split(template, cell, identity, pairs, mine, teachers)
    return groups


def _split(
    template: _Template,
    cell: str,
    identity: Mapping[str, Any],
    pairs: Pairs,
    runs: Iterable[Reading],
    teachers: _Teachers,
) -> Iterator[Group]:
    """Yield the runs of a cell in groups of one kind and one sort of teacher."""
    told: dict[tuple[str | None, int], tuple[str, Pairs]] = {}
    parts: dict[tuple[str, str], tuple[Pairs, list[Reading]]] = {}
    for run in runs:
        which = (run.teacher, teachers.seed_for(run.seed))
        if which not in told:
            told[which] = teachers.of(template, identity, *which)
        kind, more = told[which]
        part = (kind, repr(more) if more else "")
        if part not in parts:
            parts[part] = ({**pairs, **more}, [])
        parts[part][1].append(run)
    for (kind, _), (found, members) in parts.items():
        evaluated = identity["weights"] is not None
        file = file_of(identity)
        yield Group(template.variant, cell, kind, found, tuple(members), evaluated, file)


def _matching(
    candidates: Sequence[_Template], identity: Mapping[str, Any]
) -> list[tuple[_Template, Pairs]]:
    """Return the templates whose own a cell is; else the closest, one a slot, and differences."""
    # A public checkpoint that was only evaluated never stands for a network that is trained.
    possible = [t for t in candidates if t.is_teacher or identity["weights"] is None]
    if (
        file := file_of(identity)
    ) is not None and file.own:  # told apart by its file, not field by field
        possible = [replace(t, any_teacher=True) for t in possible]
    stripped = {t.leaves_open: t.stripped(identity) for t in possible}
    exact: list[tuple[_Template, Pairs]] = [
        (t, {}) for t in possible if t.is_own(stripped[t.leaves_open])
    ]
    if exact:
        return exact
    compared = [(t, _differences(t.identity, stripped[t.leaves_open])) for t in possible]
    fewest = min((len(told) for _, told in compared), default=0)
    nearest: dict[Place, tuple[_Template, Pairs]] = {}
    for template, told in compared:
        if len(told) == fewest and template.place not in nearest:
            table = _differences(stripped[template.leaves_open], template.identity)
            pairs = {name: (theirs, table[name]) for name, theirs in told.items()}
            nearest[template.place] = (template, pairs)
    return list(nearest.values())


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    # Most of two cells is equal, and told so faster than by looking at every field.
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return differences({n: ours.get(n) for n in names}, {n: theirs.get(n) for n in names})


class _Teachers:
    """Tells of which kind a run is, and how its teacher differs from the table's."""

    def __init__(
        self,
        expected: Expected,
        teacher_of: Callable[[str], FoundTeacher | None],
    ) -> None:
        self._expected = expected
        self._find = cache(teacher_of)
        self._keys: dict[tuple[str, int], str] = {}
        self._compared: dict[tuple[str, str, str], Pairs] = {}

    def seed_for(self, seed: int) -> int:
        """Return the seed of the teacher that the table gives a run of that seed."""
        return 0 if self._expected.table.teacher.seed == "fixed" else seed

    def of(
        self, template: _Template, identity: Mapping[str, Any], key: str | None, seed: int
    ) -> tuple[str, Pairs]:
        """Return the kind of a run in words, and what sets its teacher apart.

        ``key`` names the run's teacher; ``seed`` is the one that the table's teacher has.
        """
        device, data = str(identity["recipe"].get("device")), identity["dataset"]
        parts = [f"on {device}"] if template.any_device else []
        parts += [f"data {data['digest'][7:15]}"] if "own" in data else []
        file = file_of(identity)
        if file is not None and file.own:
            declared = self._expected.table.teacher.file_of(file.model) is not None
            pairs: Pairs = {} if declared else {"teacher.file": (file.sha256, None)}
            return ", ".join([*parts, *([file.words] if declared else [])]), pairs
        teacher, pairs = self._teacher(template, identity, key or "", seed, device)
        return ", ".join([*parts, *([teacher] if teacher else [])]), pairs

    def _teacher(
        self, template: _Template, identity: Mapping[str, Any], key: str, seed: int, device: str
    ) -> tuple[str, Pairs]:
        teacher = identity["teacher"]
        if template.any_teacher and template.is_teacher and identity["weights"]:
            return _public(identity["dataset"]["name"], identity["model"], identity["weights"])
        if teacher is None:
            return "", {}
        if teacher["source"] == "train":
            return self._trained(template, key, seed, device, identity["dataset"])
        if template.any_teacher:
            return _public(identity["dataset"]["name"], teacher["model"], key)
        return "", {}  # named among the cell's own differences

    def _trained(
        self,
        template: _Template,
        key: str,
        seed: int,
        device: str,
        data: Mapping[str, Any],
    ) -> tuple[str, Pairs]:
        keys = {}
        for name, example in zip(DEVICES, template.runs, strict=True):
            assert example.teacher is not None, example.key  # the signatures are equal
            keys[self._key(self._expected.teachers[example.teacher.key], seed)] = name
        words = "teacher trained here" if template.any_teacher else ""
        if key in keys:
            elsewhere = len(keys) > 1 and keys[key] != device
            return f"{words or 'teacher'} on {keys[key]}" if elsewhere else words, {}
        return words, self._apart(template, key, seed, data)

    def _apart(self, template: _Template, key: str, wanted: int, data: Mapping[str, Any]) -> Pairs:
        """Return how a teacher that is not the table's differs from the table's."""
        examples = [self._expected.teachers[r.teacher.key] for r in template.runs if r.teacher]
        found = self._find(key)
        if found is None:
            return {"teacher": (key, self._key(examples[0], wanted))}
        # On the device that it is closest to.
        pairs = min((self._compare(example, found, data) for example in examples), key=len)
        if found.seed != wanted:
            pairs = {**pairs, "teacher.seed": (found.seed, wanted)}
        if not pairs and "own" in data:  # whose digest no table knows
            return {}
        return pairs or {"teacher": (key, self._key(examples[0], wanted))}

    def _compare(self, example: Run, found: FoundTeacher, data: Mapping[str, Any]) -> Pairs:
        cells = (example.cell_key, found.cell, str(data["digest"]))
        if cells not in self._compared:
            ours = example.cell_identity | ({"dataset": data} if "own" in data else {})
            told, table = differences(ours, found.identity), differences(found.identity, ours)
            self._compared[cells] = {f"teacher.{k}": (v, table[k]) for k, v in told.items()}
        return self._compared[cells]

    def _key(self, run: Run, seed: int) -> str:
        """Return the key of a teacher's run with another seed; its own teacher changes along."""
        if run.seed == seed:
            return run.key
        if (run.key, seed) not in self._keys:
            identity = {**run.identity, "seed": seed}
            above = run.teacher
            if above is not None and above.source == "train":
                key = self._key(self._expected.teachers[above.key], seed)
                identity["teacher"] = {**identity["teacher"], "key": key}
            self._keys[run.key, seed] = f"{run.slug}-s{seed}-{digest(identity)}"
        return self._keys[run.key, seed]


def _public(dataset: str, model: str, key: str) -> tuple[str, Pairs]:
    known = registered(dataset, model)
    expected = known.sha256 if known is not None else None
    pairs: Pairs = {} if expected in (None, key) else {"teacher.key": (key, expected)}
    return f"public checkpoint {key[:8]}", pairs
