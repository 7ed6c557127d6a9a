"""Which teachers a table's runs have: trained or public, one or one a seed, taught themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.matrix import Context, make_plan
from benchmark.table import teachers
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
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


UPSCALED = """\
schema: 1
name: upscaled
source: {paper: none}
dataset: cifar100
recipe: crd_240
recipe_overrides: RECIPE
teacher: TEACHER
seeds: [0]
columns:
  - {teacher: resnet56, student: resnet20, recipe: COLUMN}
rows:
  - {name: Teacher, of: teacher}
  - {name: KD, methods: [kd]}
  - {name: Own, methods: [kd], recipe: {input_size: 48}}
"""


def sizes(folder: Path, teacher: str, recipe: str = "{}", column: str = "{}") -> dict[str, object]:
    """Return what the teacher was trained or measured on and what it reads, row by row."""
    path = folder / "upscaled.yaml"
    text = UPSCALED.replace("TEACHER", teacher).replace("RECIPE", recipe)
    path.write_text(text.replace("COLUMN", column))
    context = Context(folder / "data", "cpu")
    found = make_plan(load_table(str(path)), parse_selection([], None, []), context)
    (own,) = runs_of(found, "Teacher")
    told: dict[str, object] = {"trained": own.recipe.input_size}
    for row in ("KD", "Own"):
        (run,) = runs_of(found, row)
        assert run.teacher is not None
        assert run.teacher.key in (own.key, own.weights)
        told[row] = (run.recipe.input_size, run.teacher_input_size)
    return told


def test_a_teacher_reads_images_at_the_size_that_it_was_trained_on(tmp_path: Path) -> None:
    found = sizes(tmp_path, TRAIN_FIXED, column="{input_size: 64}")
    assert found == {"trained": None, "KD": (64, None), "Own": (48, None)}
    found = sizes(tmp_path, TRAIN_FIXED, recipe="{input_size: 64}")
    assert found == {"trained": 64, "KD": (64, 64), "Own": (48, 64)}
    found = sizes(tmp_path, "{from: train, recipe: {input_size: 40}}")
    assert found == {"trained": 40, "KD": (None, 40), "Own": (48, 40)}


def test_a_public_teacher_reads_the_images_as_they_are(tmp_path: Path, checkpoint: Path) -> None:
    found = sizes(tmp_path, "{from: registry}", recipe="{input_size: 64}")
    assert found == {"trained": None, "KD": (64, None), "Own": (48, None)}
    found = sizes(tmp_path, "{from: registry}", column="{crop_size: 24}")
    assert found == {"trained": None, "KD": (None, None), "Own": (48, None)}


def test_a_teacher_that_is_trained_on_other_crops_is_refused(tmp_path: Path) -> None:
    message = (
        "row 'KD', column resnet56-resnet20: the teacher resnet56 is trained on crops of 32"
        " pixels and its student reads images cropped to 24; set teacher.recipe.crop_size, too"
    )
    with pytest.raises(UserError, match=message):
        sizes(tmp_path, TRAIN_FIXED, column="{crop_size: 24}")
    with pytest.raises(UserError, match=r"crops of 28 pixels and its student .* to 24"):
        sizes(tmp_path, "{from: train, recipe: {crop_size: 28}}", column="{crop_size: 24}")
    found = sizes(tmp_path, "{from: train, recipe: {crop_size: 24}}", column="{crop_size: 24}")
    assert found == {"trained": None, "KD": (None, None), "Own": (48, None)}
    sizes(tmp_path, TRAIN_FIXED, column="{crop_size: 32}")  # as they are
    found = sizes(tmp_path, TRAIN_FIXED, recipe="{crop_size: 24}")
    assert found == {"trained": None, "KD": (None, None), "Own": (48, None)}


def test_what_a_table_says_of_a_teacher_wins_over_its_file(
    tmp_path: Path, checkpoint: Path
) -> None:
    policy = "{from: registry, distilled: {resnet56: {teacher: resnet110, methods: [kd]}}}"
    (run, *_) = runs_of(plan(tmp_path, teacher=policy), "KD")
    assert run.teacher is not None
    assert run.teacher.source == "train"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            "{files: {resnet56: a.pth}, distilled: {resnet56: {teacher: resnet110, methods: []}}}",
            "resnet56 stands in files and in distilled; keep one of them",
        ),
        (
            "{distilled: {'timm:resnet18.a1_in1k': {teacher: resnet110, methods: [kd]}}}",
            r"distilled: timm:resnet18\.a1_in1k names published weights, which are there",
        ),
    ],
)
def test_a_teacher_with_two_sources_is_refused(tmp_path: Path, policy: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(tmp_path, teacher=policy)


def test_a_teacher_with_a_prediction_of_its_own_is_refused(tmp_path: Path) -> None:
    policy = "{from: train, distilled: {resnet56: {teacher: resnet110, methods: [simkd]}}}"
    with pytest.raises(UserError, match="resnet56 cannot teach what simkd makes of it"):
        plan(tmp_path, teacher=policy)


def test_what_is_set_for_students_leaves_teachers_as_they_are(tmp_path: Path) -> None:
    plain = plan(tmp_path, ["row=KD"])
    swept = plan(tmp_path, ["row=KD"], sets=["recipe.lr=0.1,0.2", "student.recipe.epochs=7"])
    assert swept.teachers == plain.teachers
    assert swept.notes == ()
    told = {(run.recipe.lr, run.recipe.epochs) for run in runs_of(swept, "KD")}
    assert told == {(0.1, 7), (0.2, 7)}
    reached = plan(tmp_path, ["row=KD"], sets=["recipe.epochs=7"])
    assert "recipe.epochs reaches 2 teachers, too, trained anew" in reached.notes[0]
