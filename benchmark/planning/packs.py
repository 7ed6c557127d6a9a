"""Packs: runs that one process trains side by side, since they share what is expensive.

Runs share a pack if they see the same teacher and the same stream of images: one data pass and
one teacher pass then serve all of them. A job gets its pack as a PackFile. Imports no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.run.identity import Run, digest
from benchmark.run.pack_file import PackFile, Reader
from benchmark.table.own_teachers import FileOfTeacher

DEFAULT_PACK = 12
Sizer = Callable[[Sequence[Run]], int]  # how many runs of a group share a process at most
# What decides the images a network sees, down to their place in memory, and the teacher's
# answers to them.
_STREAM = (
    "batch_size",
    "augmentation",
    "drop_last",
    "holdout",
    "input_size",
    "eval_batch",
    "channels_last",
    "label_smoothing",
    "mix",
    "repeats",
    "crop_size",
    "test_interpolation",
    "replicas",
)
_PROCESS = ("device", "threads", "deterministic", "tf32")


@dataclass(frozen=True)
class Pack:
    """Runs for one process. ``depends`` names the packs that train their teacher.

    ``fills``: nothing is trained, but their teacher asked what these runs would ask it.
    """

    table: str
    runs: tuple[Run, ...]
    depends: tuple[str, ...] = ()
    fills: bool = False

    @classmethod
    def of(cls, file: PackFile) -> Pack:
        """Return the pack that a job was given."""
        return cls(file.table, file.runs, file.depends, file.fills)

    @property
    def trained(self) -> tuple[Run, ...]:
        """The runs that are trained."""
        return () if self.fills else self.runs

    @property
    def id(self) -> str:
        """A short name, the same whenever the same runs are packed."""
        return digest(["fill"] * self.fills + [run.key for run in self.runs])

    @property
    def label(self) -> str:
        """A readable name for queues and logs."""
        first = self.runs[0]
        if self.fills and first.teacher is not None:
            return f"{first.dataset.name}-answers-of-{first.teacher.model}"
        if len(self.runs) == 1:
            return f"{first.slug}-s{first.seed}"
        teacher = first.teacher.model if first.teacher else "baselines"
        students = sorted({run.model for run in self.runs})
        named = students[0] if len(students) == 1 else f"{len(students)}models"
        return f"{first.dataset.name}-{teacher}-{named}-x{len(self.runs)}-s{first.seed}"

    def file(
        self,
        runs_dir: Path,
        data_dir: Path,
        reader: Reader | None = None,
        plugins: Iterable[Path] = (),
        files: Mapping[str, FileOfTeacher] | None = None,
    ) -> PackFile:
        """Return all that a job needs to train this pack.

        ``files``: where the user's own teachers lie, by sha256, of which it gets those it reads.
        """
        needed = {run.weights for run in self.runs if run.reads}
        needed |= {run.teacher.key for run in self.runs if run.teacher and run.teacher.reads}
        return PackFile(
            id=self.id,
            table=self.table,
            label=self.label,
            depends=self.depends,
            plugins=tuple(plugins),
            keys=tuple(run.key for run in self.trained),
            cells=tuple(run.cell_key for run in self.trained),
            fills=self.fills,
            runs=self.runs,
            runs_dir=runs_dir.absolute(),
            data_dir=data_dir.absolute(),
            reader=reader,
            files={sha256: file for sha256, file in (files or {}).items() if sha256 in needed},
        )


def group_key(run: Run, teachers: frozenset[str]) -> tuple[Any, ...]:
    """Return what runs must have in common to share a pack.

    A run that others wait for, and an evaluation, stand alone: their results are wanted first.
    """
    recipe = run.recipe
    alone = run.key if run.key in teachers or run.weights else None
    ref = run.teacher
    teacher = (ref.model, ref.key, ref.input_size, ref.reads) if ref else None
    settings = recipe.settings(run.teacher.model) if run.teacher else None
    stream = tuple(getattr(recipe, name) for name in (*_STREAM, *_PROCESS))
    return (run.dataset, teacher, settings, run.seed, stream, alone)


def make_packs(
    table: str,
    runs: Sequence[Run],
    teachers: Iterable[str],
    size: int | Sizer = DEFAULT_PACK,
    elsewhere: Mapping[str, str] | None = None,
) -> list[Pack]:
    """Group runs into packs of at most ``size`` and of similar sizes, teachers first.

    ``teachers``: keys of the runs that others wait for. ``elsewhere``: the pack ids, by key, of
    teachers that an earlier submission trains. The order of ``runs`` is kept within a pack, so
    that the same selection gives the same packs.
    """
    waited_for = frozenset(teachers)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(group_key(run, waited_for), []).append(run)
    packs: list[Pack] = []
    trained_by = dict(elsewhere or {})
    ordered = sorted(groups.values(), key=lambda group: group[0].key not in waited_for)
    for group in ordered:
        for chunk in chunks(group, size if isinstance(size, int) else size(group)):
            teacher = chunk[0].teacher
            depends = [trained_by[teacher.key]] if teacher and teacher.key in trained_by else []
            pack = Pack(table, tuple(chunk), tuple(depends))
            packs.append(pack)
            trained_by.update({run.key: pack.id for run in chunk if run.key in waited_for})
    return packs


def chunks(runs: Sequence[Run], size: int) -> list[Sequence[Run]]:
    """Cut runs into as few parts of at most ``size`` as possible, of similar lengths."""
    count = -(-len(runs) // size)
    ends = [len(runs) * number // count for number in range(count + 1)]
    return [runs[start:end] for start, end in itertools.pairwise(ends)]
