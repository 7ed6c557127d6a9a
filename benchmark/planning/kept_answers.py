"""Where a plan shows a frozen teacher the same pictures again, and a pack that asks it beforehand.

Each pack asks its teacher a question for every image of every epoch. Packs of several seeds and
students of one teacher share its kept answers (train/answers.py), so that what counts is how many
different pictures they are shown. That is an expectation, which chance misses by less than 1 %:
counting it would draw every epoch's crops, for seconds. Imports neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.words import amount, count
from benchmark.data.augmentations import augmentation_info
from benchmark.data.datasets import described
from benchmark.data.sidecar import read_sidecar
from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.train.asked import KEPT, maps_read

# Filling pays where this share of what is asked would have been asked before, by another pack.
_ENOUGH = 0.1


class Questions(NamedTuple):
    """What packs ask one teacher: pictures shown, and about how many differ.

    ``row_bytes``: of the logits of one picture on disk, with their checksum.
    """

    packs: tuple[Pack, ...]
    shown: int
    different: int
    row_bytes: int

    @property
    def teacher(self) -> str:
        """The teacher's network."""
        ref = self.packs[0].runs[0].teacher
        assert ref is not None
        return ref.model

    @property
    def enough(self) -> bool:
        """Whether several packs share it, and enough of their questions are the same."""
        return len(self.packs) > 1 and self.different <= (1 - _ENOUGH) * self.shown

    def words(self) -> str:
        """Say it for people."""
        size = amount(self.different * self.row_bytes)
        return (
            f"{self.teacher} answers {count(len(self.packs), 'pack')}: {self.shown:,} pictures,"
            f" about {self.different:,} of them different, whose logits take {size}; the"
            f" others ({1 - self.different / self.shown:.0%}) are not asked for again"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "teacher": self.teacher,
            "packs": [pack.id for pack in self.packs],
            "shown": self.shown,
            "different": self.different,
            "bytes": self.different * self.row_bytes,
            "enough": self.enough,
        }


def shared_questions(
    packs: Iterable[Pack], data_dir: Path | None, reader: str | None = None
) -> list[Questions]:
    """Return what packs ask each frozen teacher whose answers can be kept, teachers apart."""
    groups: dict[tuple[Any, ...], list[Pack]] = {}
    for pack in packs:
        if reader != "ffcv" and _keeps(pack):
            groups.setdefault(_store_key(pack.runs[0]), []).append(pack)
    found = (_count(tuple(group), data_dir) for group in groups.values())
    return [questions for questions in found if questions.shown]


def with_fills(
    packs: Sequence[Pack], found: Iterable[Questions], alone: bool = False
) -> list[Pack]:
    """Put a pack before those of each teacher that asks it all of their questions.

    They wait for it. ``alone``: they are left out, and their teachers' packs stay.
    """
    fills: dict[str, Pack] = {}
    for questions in found:
        fill = fill_pack(questions)
        fills.update((pack.id, fill) for pack in questions.packs)
    made: list[Pack] = []
    wanted = {name for fill in fills.values() for name in fill.depends}
    for pack in packs:
        own = fills.get(pack.id)
        if own is None:
            made += [pack] if not alone or pack.id in wanted else []
            continue
        if own not in made:
            made.append(own)
        if not alone:
            made.append(dataclasses.replace(pack, depends=(*pack.depends, own.id)))
    return made


def fill_pack(questions: Questions) -> Pack:
    """Return the pack that asks: a run of each schedule and each set of outputs, in one process."""
    runs = {(_schedule(run), maps_read(run)): run for pack in questions.packs for run in pack.runs}
    alone = (
        run.model_copy(update={"recipe": run.recipe.model_copy(update={"replicas": 1})})
        for run in runs.values()
    )
    depends = {name for pack in questions.packs for name in pack.depends}
    return Pack(questions.packs[0].table, tuple(alone), tuple(sorted(depends)), fills=True)


def num_images(run: Run, data_dir: Path | None) -> int:
    """Return how many training images a run's data have."""
    sidecar = None if data_dir is None else read_sidecar(run.dataset.name, data_dir)
    if sidecar is not None:
        return sidecar.splits["train"].num_samples
    return described(run.dataset.name, run.dataset.own).num_train


def _keeps(pack: Pack) -> bool:
    """Tell whether a pack's teacher is asked, and for nothing but what is kept of it."""
    first = pack.runs[0]
    recipe = first.recipe
    if first.teacher is None or recipe.device != "cpu" or recipe.mix is not None:
        return False
    if augmentation_info(recipe.augmentation).num_variants is None:
        return False
    reads = [maps_read(run) for run in pack.runs]
    return any(maps is not None for maps in reads) and all(set(m or ()) <= set(KEPT) for m in reads)


def _store_key(run: Run) -> tuple[Any, ...]:
    """Return what runs have in common whose teacher's answers are the same rows."""
    recipe, ref = run.recipe, run.teacher
    assert ref is not None
    names = ("augmentation", "channels_last", "device", "threads", "deterministic", "tf32")
    settings = recipe.settings(ref.model)
    own = tuple(getattr(recipe, name) for name in names)
    return (run.dataset, ref.model, ref.key, ref.reads, run.teacher_input_size, settings, own)


def _schedule(run: Run) -> tuple[Any, ...]:
    """Return what decides which pictures a run is shown."""
    recipe = run.recipe
    whole = () if not recipe.drop_last and recipe.repeats == 1 else (recipe.batch_size,)
    return (run.seed, recipe.epochs, recipe.holdout, recipe.drop_last, recipe.repeats, whole)


def _count(packs: tuple[Pack, ...], data_dir: Path | None) -> Questions:
    first = packs[0].runs[0]
    info, size = augmentation_info(first.recipe.augmentation), num_images(first, data_dir)
    assert info.num_variants is not None
    draws = {_schedule(pack.runs[0]): _shown(pack.runs[0], size) for pack in packs}
    images = max(1, size - first.recipe.holdout)
    # Each draw takes one of an image's variants, all alike; the same schedule draws the same.
    missed = (1 - 1 / info.num_variants) ** (sum(draws.values()) / images)
    number = round(images * info.num_variants * (1 - missed))
    shown = sum(_shown(pack.runs[0], size) for pack in packs)
    precision = first.recipe.settings(first.teacher.model)[0] if first.teacher else "fp32"
    classes = described(first.dataset.name, first.dataset.own).num_classes
    width = classes * (2 if precision == "bf16" else 4)
    return Questions(packs, shown, number, 8 + -(-width // 8) * 8)


def _shown(run: Run, num_train: int) -> int:
    """Return how many pictures a run is shown from epoch 1 on."""
    recipe = run.recipe
    images = max(0, num_train - recipe.holdout)
    whole = images // recipe.batch_size * recipe.batch_size
    return recipe.epochs * (whole if recipe.drop_last else images)
