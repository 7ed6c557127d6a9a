"""Which runs share a process, and which wait for which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.planning.packs import Pack, make_packs
from benchmark.run.identity import Run
from benchmark.run.pack_file import read_pack
from benchmark.table.load import load_table
from benchmark.table.recipe import override
from benchmark.table.selection import parse_selection
from tests.planning.test_matrix import CHAIN, TABLE, TRAIN_FIXED, TRAIN_SAME


def plan(folder: Path, teacher: str = TRAIN_FIXED, *only: str) -> Plan:
    path = folder / "small.yaml"
    path.write_text(TABLE.replace("TEACHER", teacher), encoding="utf-8")
    return make_plan(load_table(str(path)), parse_selection(only), Context(folder, "cpu"))


def pack(plan: Plan, size: int = 12) -> list[Pack]:
    return make_packs("small", plan.runs, [run.key for run in plan.teachers], size)


def test_every_run_stands_in_one_pack(tmp_path: Path) -> None:
    for size in (1, 2, 12):
        found = plan(tmp_path)
        packs = pack(found, size)
        packed = [run.key for p in packs for run in p.runs]
        assert sorted(packed) == sorted(run.key for run in found.runs)
        assert max(len(p.runs) for p in packs) <= size
        assert len({p.id for p in packs}) == len(packs)


def test_teachers_stand_alone_and_first(tmp_path: Path) -> None:
    found = plan(tmp_path, TRAIN_SAME)
    packs = pack(found)
    teachers = [run.key for run in found.teachers]
    assert [p.runs[0].key for p in packs[: len(teachers)]] == teachers
    assert all(len(p.runs) == 1 and not p.depends for p in packs[: len(teachers)])


def test_students_wait_for_their_own_teacher_alone(tmp_path: Path) -> None:
    for policy in (TRAIN_FIXED, TRAIN_SAME):
        packs = pack(plan(tmp_path, policy))
        of_run = {run.key: p.id for p in packs for run in p.runs}
        for p in packs:
            needed = {of_run[run.teacher.key] for run in p.runs if run.teacher}
            assert set(p.depends) == needed
            assert len(needed) <= 1


def test_a_chain_of_teachers_is_waited_for_link_by_link(tmp_path: Path) -> None:
    found = plan(tmp_path, CHAIN.replace("MODEL", "wrn_40_2"), "row=KD")
    packs = pack(found)
    names = {p.id: p.runs[0].model for p in packs}
    waits = [(p.runs[0].model, [names[d] for d in p.depends]) for p in packs[:3]]
    assert waits == [("wrn_40_2", []), ("resnet110", ["wrn_40_2"]), ("resnet56", ["resnet110"])]


def test_what_is_there_is_not_waited_for(tmp_path: Path) -> None:
    found = plan(tmp_path)
    students = [run for run in found.runs if run.teacher]
    packs = make_packs("small", students, [run.key for run in found.teachers])
    assert not any(p.depends for p in packs)


def test_the_students_of_a_teacher_share_a_pack_and_a_seed(tmp_path: Path) -> None:
    found = plan(tmp_path)
    (shared,) = [
        p
        for p in pack(found)
        if p.runs[0].teacher and p.runs[0].teacher.model == "resnet56" and p.runs[0].seed == 0
    ]
    assert {"+".join(m.name for m in run.methods) for run in shared.runs} == {
        "kd",
        "dkd",
        "rkd+dhkd",
    }
    (baselines,) = [
        p for p in pack(found) if not p.runs[0].teacher and p.runs[0].seed == 1 and len(p.runs) > 1
    ]
    assert {run.model for run in baselines.runs} == {"resnet20", "resnet32"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    found = plan(tmp_path, TRAIN_FIXED, "row=KD", "seed=0")
    return next(run for run in found.runs if run.teacher)


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 32},
        {"augmentation": "none"},
        {"drop_last": True},
        {"holdout": 5},
        {"input_size": 64},
        {"eval_batch": 100},  # sums over other batches round otherwise
        {"channels_last": False},  # and so do kernels of another memory layout
        {"device": "cuda"},
        {"threads": 1},
        {"deterministic": True},
        {"per_model.resnet56.precision": "bf16"},  # the teacher's pass is shared
    ],
)
def test_what_would_change_a_neighbours_numbers_splits_a_pack(
    run: Run, fields: dict[str, Any]
) -> None:
    other = run.model_copy(update={"recipe": override(run.recipe, fields)})
    assert len(make_packs("small", [run, other], [])) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"lr": 0.3},
        {"epochs": 2},
        {"eval_every": 2},
        {"schedule.gamma": 0.3},
        {"weight_decay": 0.0},
        {"per_model.resnet20.precision": "bf16"},
    ],
)
def test_what_is_a_runs_own_affair_does_not(run: Run, fields: dict[str, Any]) -> None:
    other = run.model_copy(update={"recipe": override(run.recipe, fields)})
    assert other.key != run.key
    assert len(make_packs("small", [run, other], [])) == 1


def test_other_seeds_data_and_teachers_split_a_pack(run: Run) -> None:
    assert run.teacher is not None
    others = [
        run.model_copy(update={"seed": 1}),
        run.model_copy(update={"dataset": run.dataset.model_copy(update={"digest": "other"})}),
        run.model_copy(update={"teacher": run.teacher.model_copy(update={"key": "other"})}),
        run.model_copy(update={"teacher": None, "methods": ()}),
    ]
    assert len(make_packs("small", [run, *others], [])) == 5


def test_packs_are_the_same_whenever_they_are_made(tmp_path: Path) -> None:
    first, second = ([p.id for p in pack(plan(tmp_path))] for _ in range(2))
    assert first == second


def test_a_pack_says_all_that_a_job_needs(run: Run) -> None:
    file = Pack("small", (run,), ("before",)).file(
        Path("/r"), Path("/d"), "resident", [Path("/x/mine.py")]
    )
    assert read_pack(file.text(), "it") == file
    data = json.loads(file.text())
    assert data["runs"] == [run.to_json()]
    assert (data["schema"], data["table"], data["depends"]) == (1, "small", ["before"])
    assert data["plugins"] == ["/x/mine.py"]
    assert data["label"] == "cifar100-resnet56-resnet20-kd-s0"
