"""Teachers from the user's own files in plans: before all others, told by their digests."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.planning.packs import make_packs
from benchmark.run.pack_file import read_pack
from benchmark.submission.local_queue import read_submission
from benchmark.submission.submission import new_submission
from benchmark.table.load import load_table
from benchmark.table.selection import Selection, parse_selection
from benchmark.table.teachers import publicity
from tests.planning.test_matrix import TABLE, TRAIN_SAME, runs_of

FILES = "{from: train, seed: same, files: {resnet56: mine/my.pth}}"


def planned(folder: Path, policy: str, *teachers: str, only: tuple[str, ...] = ()) -> Plan:
    (folder / "small.yaml").write_text(TABLE.replace("TEACHER", policy))
    chosen = parse_selection(only, None, (), teachers)
    return make_plan(load_table(str(folder / "small.yaml")), chosen, Context(folder, "cpu"))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine/my.pth"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("policy", [FILES, TRAIN_SAME])
def test_a_file_teaches_every_seed_and_is_measured_once(
    tmp_path: Path, file: Path, policy: str
) -> None:
    given = () if policy == FILES else ("resnet56=mine/my.pth",)
    plan = planned(tmp_path, policy, *given)
    digest = hashlib.sha256(b"weights").hexdigest()
    taught = runs_of(plan, "KD")
    assert [run.seed for run in taught] == [0, 1]
    assert {(run.teacher.source, run.teacher.key) for run in taught if run.teacher} == {
        ("file", digest)
    }
    (measured,) = runs_of(plan, "Teacher")
    assert measured.weights == digest
    assert plan.files[digest].path == file
    assert "resnet56" not in {run.model for run in plan.teachers}
    assert "resnet110" in {run.model for run in plan.teachers}
    assert all(run.teacher is None for run in runs_of(plan, "Student"))


def test_other_weights_and_other_reading_are_other_runs(tmp_path: Path, file: Path) -> None:
    first = planned(tmp_path, FILES)
    reading = "{path: mine/my.pth, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
    read = planned(tmp_path, FILES.replace("mine/my.pth", reading))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    named = planned(
        tmp_path, FILES.replace("mine/my.pth", "{path: mine/my.pth, classes: names.txt}")
    )
    file.write_bytes(b"other")
    second = planned(tmp_path, FILES)
    keys = [{run.key for run in runs_of(p, "KD")} for p in (first, read, named, second)]
    assert len(set.union(*keys)) == 8
    assert {run.key for run in runs_of(first, "Student")} == {
        run.key for run in runs_of(second, "Student")
    }


def test_packs_carry_the_files_that_they_read(tmp_path: Path, file: Path) -> None:
    plan = planned(tmp_path, FILES)
    packs = make_packs("small", plan.runs, [t.key for t in plan.teachers])
    written = new_submission("small", packs, tmp_path / "runs", tmp_path, teachers=plan.files)
    written.write("local")
    assert read_submission(written.folder).teachers == plan.files
    for pack in read_submission(written.folder).files():
        reads = any(run.reads or (run.teacher and run.teacher.reads) for run in pack.runs)
        assert pack.files == (plan.files if reads else {})
        assert read_pack(pack.text(), "here") == pack
        assert ('"files":' in pack.text()) == reads


@pytest.mark.parametrize(
    ("policy", "teacher", "message"),
    [
        (TRAIN_SAME, "resnet65=mine/my.pth", "unknown teacher 'resnet65'.*did you mean 'resnet56'"),
        (TRAIN_SAME, "resnet56=gone.pth", "--teacher: the file of teacher resnet56 does not exist"),
        (TRAIN_SAME, "resnet56", "expected NETWORK=FILE"),
        (FILES.replace("my.pth", "no.pth"), None, r"teacher.files: the file of teacher resnet56"),
        (
            FILES.replace("resnet56", "resnet65"),
            None,
            "unknown teacher 'resnet65' in teacher.files",
        ),
        (
            FILES.replace("mine/my.pth", "{path: mine/my.pth, mean: [0.5, 0.5, 0.5]}"),
            None,
            "`mean` and `std` go together",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, file: Path, policy: str, teacher: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        planned(tmp_path, policy, *([teacher] if teacher else []))


def test_a_file_that_no_selected_run_reads_is_refused(tmp_path: Path, file: Path) -> None:
    given = "resnet56=mine/my.pth"
    with pytest.raises(UserError, match="--teacher resnet56: no selected run takes the teacher"):
        planned(tmp_path, TRAIN_SAME, given, only=("row=Student",))
    for row in ("KD", "Teacher"):
        assert planned(tmp_path, TRAIN_SAME, given, only=(f"row={row}",)).files
    # What the table itself names may rest beside a selection.
    assert not planned(tmp_path, FILES, only=("row=Student",)).files


def test_files_of_a_table_without_teachers_are_refused(tmp_path: Path, file: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "schema: 1\nname: own\nsource: {paper: none}\ndataset: digits\nrecipe: digits_60\n"
        "teacher: {from: train, seed: same, files: {wrn_16_2: mine/my.pth}}\nseeds: [0]\n"
        "columns: [{teacher: wrn_16_2, student: resnet8}]\nrows: [{name: Mine, methods: [dml]}]\n"
    )
    context = Context(tmp_path, "cpu")
    with pytest.raises(UserError, match=r"teacher\.files is given, and no row takes a teacher"):
        make_plan(load_table(str(tmp_path / "own.yaml")), Selection(), context)


def test_class_names_are_there_once(tmp_path: Path, file: Path) -> None:
    policy = FILES.replace("mine/my.pth", "{path: mine/my.pth, classes: names.txt}")
    with pytest.raises(UserError, match="cannot read the class names in"):
        planned(tmp_path, policy)
    os.mkfifo(tmp_path / "names.txt")  # nobody writes to it: reading would wait for ever
    with pytest.raises(UserError, match=r"cannot read the class names in .* not a regular file"):
        planned(tmp_path, policy)
    (tmp_path / "names.txt").unlink()
    (tmp_path / "names.txt").write_text("cat\ncat\n")
    with pytest.raises(UserError, match="names 'cat' twice"):
        planned(tmp_path, policy)


def test_a_table_with_a_base_may_name_files(tmp_path: Path, file: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "schema: 1\nname: own\nbase: digits\nteacher: {files: {wrn_16_2: mine/my.pth}}\n"
    )
    table = load_table(str(tmp_path / "own.yaml"))
    assert table.teacher.from_ == "train"
    assert table.teacher.files["wrn_16_2"].path == str(file)
    text = (tmp_path / "own.yaml").read_text().replace("{files:", "{from: registry, files:")
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=r"'teacher.from' cannot be set in a table with a base"):
        load_table(str(tmp_path / "own.yaml"))


def test_students_have_no_tags(tmp_path: Path) -> None:
    text = TABLE.replace(
        "student: resnet32", "name: resnet110-resnet32, student: timm:test_resnet.r160_in1k"
    )
    (tmp_path / "small.yaml").write_text(text.replace("TEACHER", TRAIN_SAME))
    with pytest.raises(UserError, match=r"names weights by a tag.*write timm:test_resnet"):
        make_plan(
            load_table(str(tmp_path / "small.yaml")), parse_selection(), Context(tmp_path, "cpu")
        )


def test_a_file_is_public_by_its_digest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = "f37072fd" + "0" * 56
    assert publicity("imagenet", "tv_resnet18", known) == "public"
    assert publicity("imagenet", "tv_resnet18", "0" * 64) == "own"
    assert publicity("cifar100", "resnet56", "0" * 64) == "unverified"
    own = tmp_path / "registry.yaml"
    own.write_text(
        "schema: 1\nteachers:\n  - {dataset: cifar100, model: resnet56, file: my.pth,"
        " accuracy: 70, license: mine, source: mine}\n"
    )
    monkeypatch.setenv("BENCH_REGISTRY", str(own))
    assert publicity("cifar100", "resnet56", "0" * 64) == "own"
    assert publicity("cifar100", "vgg13", "0" * 64) == "unverified"
