"""What cannot be trained is said in a line, fails its own run, and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run, TeacherRef
from benchmark.run.pack_file import read_pack
from benchmark.run.reading import read
from benchmark.table import teachers
from benchmark.table.teachers import RegisteredTeacher, Registry
from tests.helpers import SHORT, digits_plan, numbers, train

STUDENT = ["row=Student", "student=resnet8"]
KD = ["column=wrn_16_2-resnet8", "row=KD", "row=Student"]


@pytest.fixture
def own_data(digits: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may spoil."""
    shutil.copytree(digits, tmp_path / "data")
    return tmp_path / "data"


# -- run directories ------------------------------------------------------------------------------


def test_a_directory_of_other_numbers_is_left_alone(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    bad, good = runs
    rundir = RunDir(tmp_path, bad.key)
    rundir.create(bad)
    cell = json.loads(rundir.cell.read_text())
    cell["versions"]["engine"] += 1
    rundir.cell.write_text(json.dumps(cell))
    outcome = train([bad, good], digits, tmp_path)
    assert outcome.endings == {bad.key: "failed", good.key: "done"}
    assert outcome.exit_code == 1
    assert f"not {bad.key}: the directory was renamed or edited" in outcome.reasons[bad.key]
    assert [p.name for p in rundir.path.iterdir()] == ["cell.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 7}', '{"schema": 1, "a": 1}'])
def test_an_unreadable_description_is_named(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path, text: str
) -> None:
    run, _ = runs
    rundir = RunDir(tmp_path, run.key)
    rundir.path.mkdir()
    rundir.cell.write_text(text)
    outcome = train([run], digits, tmp_path)
    assert outcome.endings == {run.key: "failed"}
    assert str(rundir.cell) in outcome.reasons[run.key]


def test_a_file_in_place_of_a_directory(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    bad, good = runs
    (tmp_path / bad.key).write_text("in the way")
    outcome = train([bad, good], digits, tmp_path)
    assert outcome.endings == {bad.key: "failed", good.key: "done"}
    assert "cannot create" in outcome.reasons[bad.key]
    nowhere = tmp_path / bad.key / "runs"
    outcome = train([bad, good], digits, nowhere)
    assert set(outcome.endings.values()) == {"failed"}


def test_runs_are_for_the_whole_lab_to_read(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    run, _ = runs
    train([run], digits, tmp_path)
    for path in RunDir(tmp_path, run.key).path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, path


def test_a_pack_of_another_version_is_refused(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path
) -> None:
    run, _ = runs
    for name in run.versions:
        versions = run.versions | {name: 99}
        with pytest.raises(UserError, match=f"planned with version 99 of {name}.*submit the tab"):
            train([run.model_copy(update={"versions": versions})], digits, tmp_path)
    text = Pack("test", (run,)).file(tmp_path, digits).text()
    with pytest.raises(UserError, match="the pack has schema 2, this version reads 1"):
        read_pack(text.replace('"schema":1', '"schema":2', 1), "it")
    assert not list(tmp_path.iterdir())


# -- data and teachers ----------------------------------------------------------------------------


def spoil(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(data[:-10])
    elif kind == "altered":
        data[(1 << 21) + 100] ^= 255  # in the first image
        path.write_bytes(data)
    elif kind == "foreign":
        path.write_bytes(b"x" * len(data))
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", r"train\.beton has .* bytes, not .*bench data write digits"),
        ("altered", r"train\.beton"),
        ("foreign", r"train\.beton is no \.beton file of this project"),
        ("gone", r"train\.beton is missing"),
    ],
)
def test_spoilt_data_fails_the_pack_with_a_line(
    runs: tuple[Run, Run], own_data: Path, tmp_path: Path, kind: str, message: str
) -> None:
    spoil(own_data / "digits" / "train.beton", kind)
    outcome = train(runs, own_data, tmp_path)
    assert set(outcome.endings.values()) == {"failed"}
    for run in runs:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(outcome.reasons[run.key])
        rundir = RunDir(tmp_path, run.key)
        assert read(rundir).state == "failed"
        assert json.loads(rundir.failure.read_text())["count"] == 1
        assert not rundir.lease.exists()
    train(runs, own_data, tmp_path)
    assert json.loads(rundir.failure.read_text())["count"] == 2


def test_data_that_changed_since_planning_is_not_trained_on(
    runs: tuple[Run, Run], own_data: Path, tmp_path: Path
) -> None:
    sidecar = own_data / "digits" / "dataset.json"
    changed = json.loads(sidecar.read_text()) | {
        "official": False,
        "altered": "a subset",
        "digest": "sha256:123",
    }
    sidecar.write_text(json.dumps(changed))
    outcome = train(runs, own_data, tmp_path)
    assert set(outcome.endings.values()) == {"failed"}
    for reason in outcome.reasons.values():
        assert "is not what the run was planned with" in reason


@pytest.fixture(scope="module")
def taught(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Run]:
    """A trained teacher, and a student that waits for it."""
    teacher, _, student = sorted(
        digits_plan(digits, KD).runs, key=lambda run: (bool(run.teacher), run.model == "resnet8")
    )
    runs_dir = tmp_path_factory.mktemp("teacher")
    train([teacher], digits, runs_dir)
    return runs_dir, teacher, student


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"the teacher .* is not there \(it is missing\); train it first"),
        ("unfinished", r"the teacher .* is not there \(it was started and has not finished\)"),
        ("classes", r"is for 100 classes, the model for 10"),
        ("other", r"does not fit the model: it lacks"),
        ("truncated", r"student\.safetensors cannot be read"),
        ("text", r"student\.safetensors cannot be read"),
        ("huge", r"has 1,099,511,627,776 bytes: it is not a file of this project"),
        ("pipe", r"student\.safetensors is not a regular file"),
    ],
)
def test_a_teacher_that_does_not_fit_fails_its_students(
    taught: tuple[Path, Run, Run], digits: Path, tmp_path: Path, kind: str, message: str
) -> None:
    source, teacher, student = taught
    rundir = RunDir(tmp_path, teacher.key)
    if kind != "missing":
        shutil.copytree(source / teacher.key, rundir.path)
    if kind == "unfinished":
        rundir.result.unlink()
    if kind in ("classes", "other"):
        model = build_model(teacher.model if kind == "classes" else "resnet8", 100)
        save_file(model.state_dict(), rundir.weights)
    if kind == "truncated":
        rundir.weights.write_bytes(rundir.weights.read_bytes()[:-1])
    if kind == "text":
        rundir.weights.write_text("hello")
    if kind == "huge":
        os.truncate(rundir.weights, 2**40)
    if kind == "pipe":
        rundir.weights.unlink()
        os.mkfifo(rundir.weights)
    outcome = train([student], digits, tmp_path)
    assert outcome.endings == {student.key: "failed"}
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(outcome.reasons[student.key])


def test_what_the_student_saw_is_recorded(
    taught: tuple[Path, Run, Run], digits: Path, tmp_path: Path
) -> None:
    source, teacher, student = taught
    shutil.copytree(source / teacher.key, tmp_path / teacher.key)
    train([student], digits, tmp_path)
    result = RunDir(tmp_path, student.key).read_result()
    assert result["dataset_digest"] == student.dataset.digest
    assert len(result["teacher_digest"]) == 64
    assert result["restarts"] == 0
    assert result["provenance"]["versions"]["torch"] == torch.__version__
    assert result["provenance"]["threads"] == 1
    assert result["seconds"] > 0


# -- while it trains ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_method_that_raises_fails_its_run_alone(
    taught: tuple[Path, Run, Run],
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, teacher, good = taught
    shutil.copytree(source / teacher.key, tmp_path / teacher.key)
    plan = digits_plan(digits, ["column=wrn_16_2-resnet8", "row=RKD"])
    (bad,) = [run for run in plan.runs if run.methods]

    def broken(*_: Any) -> None:
        raise torch.linalg.LinAlgError("the algorithm failed to converge\nbecause")

    monkeypatch.setattr("benchmark.methods.rkd.RKD.loss", broken)
    outcome = train([bad, good], digits, tmp_path)
    assert outcome.endings == {bad.key: "failed", good.key: "done"}
    failure = json.loads(RunDir(tmp_path, bad.key).failure.read_text())
    assert failure["reason"] == "the algorithm failed to converge"
    assert failure["kind"] == "_LinAlgError"
    assert "in broken" in failure["traceback"]
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copytree(source / teacher.key, alone / teacher.key)
    train([good], digits, alone)
    assert numbers(tmp_path, good) == numbers(alone, good)


def test_a_public_teacher_that_is_another_network_teaches_nobody(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = RegisteredTeacher(
        dataset="digits",
        model="wrn_16_2",
        file="wrn.pth",
        accuracy=93.0,
        license="none",
        source="this test",
    )
    monkeypatch.setattr(teachers, "registry", lambda: Registry(schema=1, teachers=(teacher,)))
    monkeypatch.setenv("BENCH_TEACHERS", str(tmp_path))
    torch.save({"model": build_model("wrn_16_2", 10).state_dict()}, tmp_path / "wrn.pth")
    (run,) = [r for r in digits_plan(digits, KD[:2], sets=SHORT).runs if r.teacher]
    public = TeacherRef(
        model="wrn_16_2", source="registry", key=str(teachers.checkpoint_digest(teacher))
    )
    run = run.model_copy(update={"teacher": public})
    runs_dir = tmp_path / "runs"
    outcome = train([run], digits, runs_dir)
    assert outcome.endings == {run.key: "failed"}
    assert "93.00 % is published" in outcome.reasons[run.key]
    assert not RunDir(runs_dir, run.key).records.exists()
