"""Which teachers a table's runs have: trained or public, one or one a seed, taught themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.table import teachers
from tests.planning.test_matrix import CHAIN, COLUMN, TABLE, TRAIN_FIXED, TRAIN_SAME, plan, runs_of


def test_one_teacher_for_all_seeds(tmp_path: Path) -> None:
    found = plan(tmp_path, teacher=TRAIN_FIXED)
    assert [(t.model, t.seed) for t in found.teachers] == [("resnet56", 0), ("resnet110", 0)]
    assert {run.teacher and run.teacher.key for run in runs_of(found, "KD")} == {
        found.teachers[0].key
    }
    assert runs_of(found, "Teacher") == [found.teachers[0]]
    assert list(found.runs[:2]) == list(found.teachers)


def test_a_teacher_for_each_seed(tmp_path: Path) -> None:
    found = plan(tmp_path, teacher=TRAIN_SAME)
    for run in runs_of(found, "KD"):
        assert run.teacher is not None
        (teacher,) = [t for t in found.teachers if t.key == run.teacher.key]
        assert teacher.seed == run.seed
    assert [run.seed for run in runs_of(found, "Teacher")] == [0, 1]


def test_teachers_may_have_a_recipe_of_their_own(tmp_path: Path) -> None:
    policy = "{from: train, recipe: {epochs: 100}}"
    found = plan(tmp_path, ["row=KD"], teacher=policy)
    epochs = {run.model: run.recipe.epochs for run in found.runs}
    assert epochs == {"resnet56": 100, "resnet110": 100, "resnet20": 240, "resnet32": 240}


def test_a_teacher_is_only_trained_where_somebody_needs_it(tmp_path: Path) -> None:
    assert plan(tmp_path, ["row=Student"]).teachers == ()
    found = plan(tmp_path, ["row=KD", "student=resnet32"])
    assert [t.model for t in found.teachers] == ["resnet110"]


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_TEACHERS", str(tmp_path / "teachers"))
    known = teachers.registered("cifar100", "resnet56")
    assert known is not None
    path = tmp_path / "teachers" / known.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


def test_a_public_teacher_is_evaluated_where_its_file_is(tmp_path: Path, checkpoint: Path) -> None:
    found = plan(tmp_path, teacher="{from: registry}")
    assert [t.model for t in found.teachers] == ["resnet110"]
    (evaluation,) = runs_of(found, "Teacher")
    (run, *_) = runs_of(found, "KD")
    assert run.teacher is not None
    assert evaluation.weights == run.teacher.key
    assert run.teacher.source == "registry"
    before = run.key
    checkpoint.write_bytes(b"other weights")
    (run, *_) = runs_of(plan(tmp_path, teacher="{from: registry}"), "KD")
    assert run.key != before
    checkpoint.unlink()
    (run, *_) = runs_of(plan(tmp_path, teacher="{from: registry}"), "KD")
    assert run.teacher is not None
    assert run.teacher.source == "train"


def test_a_table_may_refuse_public_teachers(tmp_path: Path, checkpoint: Path) -> None:
    found = plan(tmp_path, teacher=TRAIN_FIXED)
    assert {t.model for t in found.teachers} == {"resnet56", "resnet110"}


def test_the_registry_is_of_one_dataset(tmp_path: Path, checkpoint: Path) -> None:
    text = TABLE.replace("cifar100", "cifar10")
    found = plan(tmp_path, teacher="{from: registry}", text=text)
    assert {t.model for t in found.teachers} == {"resnet56", "resnet110"}


def test_teachers_of_teachers_come_first(tmp_path: Path) -> None:
    found = plan(tmp_path, ["row=KD", COLUMN], teacher=CHAIN.replace("MODEL", "wrn_40_2"))
    assert [t.model for t in found.teachers] == ["wrn_40_2", "resnet110", "resnet56"]
    top, middle, last = found.teachers
    assert top.teacher is None
    assert middle.teacher is not None
    assert last.teacher is not None
    assert (middle.teacher.key, last.teacher.key) == (top.key, middle.key)
    assert last.methods[0].options["temperature"] == 2.0
    assert [run.key for run in found.runs[:3]] == [top.key, middle.key, last.key]


def test_teachers_that_teach_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cycle \(resnet56 -> resnet110 -> resnet56\)"):
        plan(tmp_path, teacher=CHAIN.replace("MODEL", "resnet56"))


def test_a_distilled_teacher_is_checked_like_a_row(tmp_path: Path) -> None:
    policy = "{from: train, distilled: {resnet56: {teacher: resnet110, methods: [kd, dkd]}}}"
    with pytest.raises(UserError, match="teacher resnet56: the methods disagree"):
        plan(tmp_path, teacher=policy)
