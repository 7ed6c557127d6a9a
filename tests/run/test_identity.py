"""What a run's key hashes, and what it must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.yamlfile import validate
from benchmark.planning.matrix import Context, make_plan
from benchmark.run.identity import DatasetRef, MethodRef, Run, TeacherRef, differences
from benchmark.table.load import load_table
from benchmark.table.recipe import Milestones, Recipe, override
from benchmark.table.selection import parse_selection

RECIPE = Recipe(
    epochs=2,
    batch_size=64,
    lr=0.05,
    schedule=Milestones(milestones=(1,)),
    augmentation="crop_flip",
    device="cpu",
)
RUN = Run(
    dataset=DatasetRef(name="cifar100", digest="official:1"),
    model="resnet20",
    teacher=TeacherRef(model="resnet56", source="train", key="teacher-s0-0123456789ab"),
    methods=(MethodRef(name="kd", version=1, options={"weight": 0.9, "temperature": 4.0}),),
    recipe=RECIPE,
    seed=3,
    versions={"engine": 1, "augmentation": 1, "model:resnet20": 1, "model:resnet56": 1},
)


def changed(**fields: Any) -> Run:
    return RUN.model_copy(update=fields)


def recipe(**fields: Any) -> Run:
    return changed(recipe=override(RECIPE, fields))


def test_a_key_reads_well_and_stays_the_same() -> None:
    # If this fails, every run that anybody has trained is orphaned. Only a change of what a
    # run is may do that.
    assert RUN.key == "cifar100-resnet56-resnet20-kd-s3-948dc125dbf5"
    assert RUN.cell_key == "cifar100-resnet56-resnet20-kd-83fcf13e7988"


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ("Teacher", "cifar100-resnet56-s0-3f962f5b1ce4"),
        ("Student", "cifar100-resnet20-s0-098fd09dc0ee"),
        ("KD", "cifar100-resnet56-resnet20-kd-s0-459c46c250a5"),
        ("DHKD + ReviewKD", "cifar100-resnet56-resnet20-dhkd+reviewkd-s0-85c7f8613cbf"),
    ],
)
def test_the_published_table_keeps_its_keys(
    row: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A new version of a part (CHANGELOG.md) is the one good reason to change these.
    monkeypatch.setenv("BENCH_TEACHERS", str(tmp_path))
    chosen = parse_selection([f"row={row}", "column=resnet56-resnet20"], "0")
    (slot,) = make_plan(load_table("cifar100"), chosen, Context(tmp_path, "cpu")).slots
    assert [run.key for variant in slot.variants for run in variant.runs] == [key]


@pytest.mark.parametrize(
    "other",
    [
        changed(dataset=DatasetRef(name="cifar100", digest="sha256:2")),
        changed(dataset=DatasetRef(name="cifar10", digest="official:1")),
        changed(model="resnet32"),
        changed(weights="0" * 64),
        changed(teacher=None),
        changed(teacher=TeacherRef(model="resnet56", source="registry", key="0" * 64)),
        changed(teacher=TeacherRef(model="resnet56", source="train", key="teacher-s0-b")),
        changed(methods=()),
        changed(methods=(*RUN.methods, *RUN.methods)),
        changed(methods=(RUN.methods[0].model_copy(update={"version": 2}),)),
        changed(methods=(RUN.methods[0].model_copy(update={"version": "a1b2"}),)),
        changed(methods=(RUN.methods[0].model_copy(update={"options": {"weight": 0.8}}),)),
        changed(ce_weight=1.0),
        changed(predict="simkd"),
        changed(seed=4),
        *(changed(versions=RUN.versions | {name: 2}) for name in RUN.versions),
        recipe(epochs=3),
        recipe(batch_size=32),
        recipe(lr=0.1),
        recipe(optimizer="adamw"),
        recipe(momentum=0.8),
        recipe(nesterov=True),
        recipe(weight_decay=0.0),
        recipe(clip_norm=1.0),
        recipe(schedule={"kind": "plateau"}),
        recipe(**{"schedule.gamma": 0.2}),
        recipe(augmentation="none"),
        recipe(drop_last=True),
        recipe(holdout=10),
        recipe(input_size=64),
        recipe(eval_every=2),
        recipe(eval_batch=100),
        recipe(precision="bf16"),
        recipe(channels_last=True),
        recipe(threads=1),
        recipe(device="cuda"),
        recipe(deterministic=True),
        recipe(**{"per_model.resnet20.precision": "bf16"}),
        recipe(betas=(0.9, 0.99)),
        recipe(eps=1e-6),
        recipe(optimizer="lamb", lamb={"max_grad_norm": 1.0}),
        recipe(decay_on="matrices"),
        recipe(also_decay=("dist_token",)),
        recipe(label_smoothing=0.1),
        recipe(accumulate=2),
        recipe(drop_path=0.1),
        recipe(average={"decay": 0.9}),
        recipe(mix={"mixup": 0.8}, drop_last=True),
        recipe(repeats=3),
        recipe(crop_size=64),
        recipe(test_interpolation="bicubic"),
        recipe(norm_updates="once"),
        recipe(tf32="nowhere"),
        recipe(schedule={"kind": "cosine", "late": 1}),
    ],
)
def test_whatever_moves_numbers_moves_the_key(other: Run) -> None:
    assert other != RUN
    assert other.key.rpartition("-")[2] != RUN.key.rpartition("-")[2]


def test_every_field_is_either_hashed_or_known_to_move_nothing() -> None:
    ignored = set(RUN.to_json()) - set(RUN.identity)
    assert ignored == {"schema"}
    ignored = set(RUN.to_json()["recipe"]) - set(RUN.identity["recipe"])
    assert ignored == {"keep_drops"} == set(RUN.to_json()["recipe"]) & Recipe.unhashed


@pytest.mark.parametrize(
    "other",
    [changed(reported="ensemble"), changed(pair="resnet56"), recipe(steps_per_epoch=10)],
)
def test_what_came_later_is_hashed_where_it_is_set(other: Run) -> None:
    assert other.key.rpartition("-")[2] != RUN.key.rpartition("-")[2]


def test_what_moves_no_number_moves_no_key() -> None:
    assert recipe(keep_drops=False).key == RUN.key
    assert recipe(probes=["conflict"]).key == RUN.key
    reordered = {"temperature": 4.0, "weight": 0.9}
    versions = dict(reversed(RUN.versions.items()))
    method = MethodRef(name="kd", version=1, options=reordered)
    assert changed(methods=(method,), versions=versions).key == RUN.key
    assert recipe(lr=0.05, weight_decay=0.0005).key == RUN.key


def test_a_run_survives_being_written_and_read() -> None:
    read = validate(Run, json.loads(json.dumps(RUN.to_json())), "cell.json")
    assert read == RUN
    assert read.key == RUN.key


def test_seeds_of_one_cell_share_it_though_their_teachers_differ() -> None:
    other_teacher = TeacherRef(model="resnet56", source="train", key="teacher-s1-0123456789ab")
    other = changed(seed=4, teacher=other_teacher)
    assert other.key != RUN.key
    assert other.cell_key == RUN.cell_key
    assert recipe(epochs=3).cell_key != RUN.cell_key
    public = changed(teacher=TeacherRef(model="resnet56", source="registry", key="0" * 64))
    assert public.cell_key != RUN.cell_key
    file = TeacherRef(model="resnet56", source="registry", key="1" * 64)
    assert changed(teacher=file).cell_key != public.cell_key


def test_a_slug_is_a_file_name() -> None:
    run = changed(model="timm:vit/base patch16", methods=RUN.methods * 60)
    assert set(run.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789_+.-")
    assert len(run.key.encode()) < 200


def test_differences_name_their_place() -> None:
    ours, theirs = RUN.identity, recipe(epochs=7, **{"schedule.gamma": 0.5}).identity
    assert differences(ours, theirs) == {"recipe.epochs": 7, "recipe.schedule.gamma": 0.5}
    assert differences(ours, ours) == {}
    assert differences({"a": 1}, {"b": 2}) == {"a": None, "b": 2}


def test_a_teacher_at_its_students_size_keeps_its_runs_keys() -> None:
    assert RUN.teacher is not None
    assert "input_size" not in RUN.to_json()["teacher"]
    teachers = [RUN.teacher.model_copy(update={"input_size": size}) for size in (None, 64, "data")]
    runs = [changed(teacher=teacher) for teacher in teachers]
    assert runs[0].key == RUN.key
    assert len({run.key for run in runs}) == 3
    assert [Run.model_validate(run.to_json()) for run in runs] == runs


def test_what_moves_no_number_of_a_run_is_in_no_key(tmp_path: Path) -> None:
    def keys(table: str, only: str, device: str, *sets: str) -> list[str]:
        chosen = parse_selection(["row=Student", f"student={only}"], "0", sets)
        return [
            run.key for run in make_plan(load_table(table), chosen, Context(tmp_path, device)).runs
        ]

    once, twice = "recipe.norm_updates=once", "recipe.norm_updates=twice"
    nowhere = "recipe.tf32=nowhere"
    for device in ("cpu", "cuda"):
        assert keys("cifar100", "resnet20", device, once) == keys("cifar100", "resnet20", device)
        assert keys("cifar100", "wrn_16_2", device, twice) != keys("cifar100", "wrn_16_2", device)
    assert keys("cifar100", "resnet20", "cpu", nowhere) == keys("cifar100", "resnet20", "cpu")
    assert keys("cifar100", "resnet20", "cuda", nowhere) != keys("cifar100", "resnet20", "cuda")
