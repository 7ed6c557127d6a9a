"""How often packs show a teacher the same pictures, and the packs that ask it beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.data.augment import crop_flip, crops_of, variants
from benchmark.data.augmentations import augmentation_info
from benchmark.data.open import open_batches
from benchmark.data.order import BatchPlan
from benchmark.data.shown import pictures
from benchmark.planning.kept_answers import shared_questions, with_fills
from benchmark.planning.pack_size import parse_pack_size
from benchmark.planning.packs import Pack, make_packs
from benchmark.planning.text import describe_plan, plan_to_json
from tests.helpers import SHORT, digits_plan

TABLE = """
schema: 1
name: fixed
source: {paper: "none"}
dataset: digits
recipe: digits_60
protocol: {report: last}
teacher: {from: train, seed: fixed}
seeds: [0, 1]
columns: [{teacher: wrn_16_2, student: resnet8}, {teacher: wrn_16_2, student: wrn_16_1}]
rows:
  - {name: KD, methods: [kd]}
  - {name: RKD, methods: [rkd]}
  - {name: AT, methods: [at]}
"""
SOME = ("recipe.epochs=8", "recipe.eval_every=8", "recipe.schedule.milestones=[6]")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "fixed.yaml"
    path.write_text(TABLE)
    return path


def packs_of(table: Path, digits: Path, only: str = "row!=AT", seeds: str = "0-1") -> list[Pack]:
    plan = digits_plan(digits, [only], seeds=seeds, sets=SOME, table=str(table))
    return make_packs("fixed", plan.runs, [run.key for run in plan.teachers])


def test_pictures_are_those_that_the_reader_shows(digits: Path) -> None:
    settings = {"seed": 3, "batch_size": 32, "drop_last": True, "holdout": 10, "repeats": 2}
    batches = open_batches("digits", digits, augmentation="crop_flip", **settings)  # type: ignore[arg-type]
    plan, info = BatchPlan(100, 3, 32, True, 10, 2), augmentation_info("crop_flip")
    for epoch in (1, 2):
        shown = [batch.indices * 162 + batch.variants for batch in batches.epoch(epoch)]
        assert np.concatenate(shown).tolist() == pictures(plan, info, epoch).tolist()


def test_a_picture_is_found_by_its_number(digits: Path) -> None:
    import torch

    info = augmentation_info("crop_flip")
    crops = crop_flip(info, 1, 2, torch.arange(500))
    for ours, theirs in zip(crops_of(info, variants(info, crops)), crops, strict=True):
        assert torch.equal(ours, theirs)
    batches = open_batches("digits", digits, augmentation="crop_flip", seed=0, batch_size=50)
    (batch, *_) = batches.epoch(1)
    again = batches.pictures(batch.indices, batch.variants)  # type: ignore[attr-defined]
    assert torch.equal(again.images, batch.images)
    assert torch.equal(again.labels, batch.labels)


def test_what_is_counted(table: Path, digits: Path) -> None:
    packs = packs_of(table, digits)
    (found,) = shared_questions(packs, digits)
    assert found.shown == 2 * 8 * 100  # a pack a seed, eight epochs
    seen = set()
    for seed in (0, 1):
        batches = open_batches("digits", digits, augmentation="shift1", seed=seed, batch_size=64)
        for epoch in range(1, 9):
            for batch in batches.epoch(epoch):
                assert batch.variants is not None
                seen |= set(zip(batch.indices.tolist(), batch.variants.tolist(), strict=True))
    assert found.different == pytest.approx(len(seen), rel=0.02)
    assert found.row_bytes == 8 + 4 * 10
    assert found.enough
    assert "wrn_16_2 answers 2 packs: 1,600 pictures" in found.words()


def test_packs_that_read_maps_ask_every_time(table: Path, digits: Path) -> None:
    assert shared_questions(packs_of(table, digits, "row!=KD"), digits) == []
    assert shared_questions(packs_of(table, digits), digits, reader="ffcv") == []


def test_one_pack_alone_asks_nothing_that_another_could(table: Path, digits: Path) -> None:
    (found,) = shared_questions(packs_of(table, digits, "row=KD", seeds="0"), digits)
    assert not found.enough


def test_students_wait_for_who_asks_and_who_asks_for_the_teacher(table: Path, digits: Path) -> None:
    packs = packs_of(table, digits)
    found = shared_questions(packs, digits)
    teacher, fill, *students = with_fills(packs, found)
    assert (fill.fills, fill.depends, fill.trained) == (True, (teacher.id,), ())
    assert {run.seed for run in fill.runs} == {0, 1}
    assert len(fill.runs) == 4  # a schedule a seed, with pooled vectors and without
    assert [pack.depends for pack in students] == [(teacher.id, fill.id)] * 2
    assert [pack.id for pack in students] == [pack.id for pack in packs[1:]]
    assert with_fills(packs, found, alone=True) == [teacher, fill]
    assert with_fills(packs, [], alone=True) == []
    file = fill.file(Path("runs"), digits)
    assert (file.keys, file.cells, file.fills) == ((), (), True)
    assert '"fills"' not in teacher.file(Path("runs"), digits).text()


def test_a_plan_says_it(table: Path, digits: Path, tmp_path: Path) -> None:
    plan = digits_plan(digits, ["row=KD"], seeds="0-1", sets=SOME, table=str(table))
    size = parse_pack_size("")
    assert "`bench teachers fill` asks them beforehand" in describe_plan(
        plan, tmp_path, size, digits
    )
    (told,) = plan_to_json(plan, tmp_path, size, digits)["questions"]
    assert told["shown"] == 1600
    assert told["enough"]
    short = digits_plan(digits, ["row=AT"], seeds="0-1", sets=SHORT, table=str(table))
    assert "beforehand" not in describe_plan(short, tmp_path, size, digits)
    assert plan_to_json(short, tmp_path, size, digits)["questions"] == []
