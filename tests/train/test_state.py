"""Checkpoints: damaged, foreign, hostile, unwritable; what is there is never lost."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.models.checkpoint import refuse_packed
from benchmark.monitor.failures import last_lines
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import read
from benchmark.submission.folder import Folder
from benchmark.submission.marks import held
from benchmark.train import state
from benchmark.train.about import read_about
from benchmark.train.ledger import Ledger
from benchmark.train.state import CheckpointError
from tests.helpers import SHORT, digits_plan, numbers, train

CONTENT = {"schema": 1, "weights": torch.arange(20_000.0), "rng": {"cpu": torch.get_rng_state()}}
STUDENT = ["row=Student", "student=resnet8"]


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path, "run")
    found.path.mkdir()
    return found


def content(step: int, key: str = "run", schema: int = 1) -> dict[str, Any]:
    return CONTENT | {"schema": schema, "key": key, "step": step}


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """A limit on the size of files: writing past it fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_newest_is_read_and_nothing_else_is_left(rundir: RunDir) -> None:
    assert state.load(rundir) is None
    for step in range(3):
        state.save(rundir, content(step))
    found = state.load(rundir)
    assert found is not None
    assert found["step"] == 2
    assert torch.equal(found["weights"], CONTENT["weights"])  # type: ignore[arg-type]
    assert {p.name for p in rundir.path.iterdir()} == {"last.pt", "previous.pt"}


@pytest.mark.parametrize("damage", ["empty", "one byte", "half", "end", "flipped", "text"])
def test_a_damaged_newest_falls_back_to_the_one_before(rundir: RunDir, damage: str) -> None:
    for step in (1, 2):
        state.save(rundir, content(step))
    data = bytearray(rundir.checkpoint.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    kept = {"empty": 0, "one byte": 1, "half": len(data) // 2, "end": len(data) - 1}
    rundir.checkpoint.write_bytes(b"hello" if damage == "text" else data[: kept.get(damage)])
    found = state.load(rundir)
    assert found is not None
    assert found["step"] == 1


@pytest.mark.parametrize("name", ["last.pt", "previous.pt", "epoch0003.pt"])
def test_a_pipe_is_refused_without_waiting_for_its_writer(rundir: RunDir, name: str) -> None:
    path = rundir.path / name
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match=rf"{name} .*is not a regular file"):
        state.read(path)
    if not name.startswith("epoch"):
        for reader in (state.check, state.load):
            with pytest.raises(CheckpointError, match="move the run directory away"):
                reader(rundir)


def test_no_reader_waits_for_a_pipe(rundir: RunDir) -> None:
    pipe = rundir.path / "pipe"
    os.mkfifo(pipe)
    reading: tuple[Callable[[], object], ...] = (
        lambda: read_about(pipe),
        lambda: refuse_packed(pipe),
        lambda: Ledger(pipe).settle(),
    )
    for reader in reading:
        with pytest.raises(UserError, match="is not a regular file"):
            reader()
    assert last_lines(pipe) == ()
    folder = Folder(rundir.path)
    os.mkfifo(folder.held)
    assert held(folder) == f"{folder.held} cannot be read"


def test_a_kill_between_the_two_renames_loses_nothing(rundir: RunDir) -> None:
    for step in (1, 2):
        state.save(rundir, content(step))
    rundir.checkpoint.rename(rundir.previous_checkpoint)
    shutil.copy(rundir.previous_checkpoint, rundir.next_checkpoint)
    found = state.load(rundir)
    assert found is not None
    assert found["step"] == 2
    state.save(rundir, content(3))
    assert state.read(rundir.checkpoint)["step"] == 3


def test_where_nothing_is_readable_the_files_are_named(rundir: RunDir) -> None:
    for step in (1, 2):
        state.save(rundir, content(step))
    rundir.checkpoint.write_bytes(b"")
    rundir.previous_checkpoint.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.pt .*; .*previous\.pt .*; move the run"):
        state.load(rundir)


@pytest.mark.parametrize("form", ["pickle", "torch", "old torch"])
def test_a_hostile_checkpoint_is_refused_and_not_executed(
    rundir: RunDir, tmp_path: Path, form: str
) -> None:
    witness = tmp_path / "witness"
    hostile = content(1) | {"extra": Hostile(witness)}
    if form == "pickle":
        rundir.checkpoint.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, rundir.checkpoint, _use_new_zipfile_serialization=form == "torch")
    said = r"last\.pt holds \S+, which is no weight" if form == "torch" else r"last\.pt cannot be"
    for look in (state.load, state.check):
        with pytest.raises(CheckpointError, match=said) as caught:
            look(rundir)
        assert "\n" not in str(caught.value)
    assert not witness.exists()
    pickle.loads(pickle.dumps(Hostile(witness)))  # it would have run
    assert witness.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (content(1, key="other"), r"belongs to run other, not run"),
        ({"weights": torch.zeros(3)}, r"not a checkpoint of this project"),
        ([1, 2], r"not a checkpoint of this project"),
        (content(1, schema=3), r"has schema 3, this version reads 1"),
    ],
)
def test_a_foreign_checkpoint_is_refused(rundir: RunDir, wrong: Any, message: str) -> None:
    torch.save(wrong, rundir.checkpoint)
    with pytest.raises(CheckpointError, match=message):
        state.load(rundir)


def test_a_full_disk_keeps_the_old_checkpoint(rundir: RunDir) -> None:
    state.save(rundir, content(1))
    with small_files(10_000), pytest.raises(CheckpointError, match=r"cannot write .*next\.pt"):
        state.save(rundir, content(2))
    assert [p.name for p in rundir.path.iterdir()] == ["last.pt"]
    assert state.read(rundir.checkpoint)["step"] == 1
    state.save(rundir, content(3))
    assert state.read(rundir.checkpoint)["step"] == 3


# -- whole runs -----------------------------------------------------------------------------------

SETS = (*SHORT, "recipe.epochs=3", "recipe.schedule.milestones=[1, 2]", "recipe.keep_drops=true")


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A student baseline of three epochs whose rate drops twice."""
    runs_dir = tmp_path_factory.mktemp("undisturbed")
    (run,) = digits_plan(digits, STUDENT, sets=SETS).runs
    assert train([run], digits, runs_dir).exit_code == 0
    return runs_dir, run


def stop_after(ticks: int) -> Any:
    calls = iter(range(10_000))
    return lambda: "asked to" if next(calls) == ticks else None


@pytest.mark.slow
def test_training_continues_after_a_full_disk(
    trained: tuple[Path, Run], digits: Path, tmp_path: Path
) -> None:
    undisturbed, run = trained
    rundir = RunDir(tmp_path, run.key)
    train([run], digits, tmp_path, stop=stop_after(3))
    before = rundir.checkpoint.read_bytes()
    with small_files(50_000):  # as large as all but the networks
        outcome = train([run], digits, tmp_path, checkpoint_seconds=0)
    assert outcome.endings == {run.key: "failed"}
    assert "File too large" in outcome.reasons[run.key]
    assert read(rundir).state == "failed"
    assert rundir.checkpoint.read_bytes() == before
    assert not list(rundir.path.glob(".*"))
    assert train([run], digits, tmp_path).endings == {run.key: "done"}
    assert numbers(tmp_path, run) == numbers(undisturbed, run)
    assert not rundir.failure.exists()


def test_an_interruption_on_a_full_disk_says_so(
    trained: tuple[Path, Run], digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, run = trained
    with small_files(50_000), caplog.at_level(logging.INFO, logger="benchmark"):
        outcome = train([run], digits, tmp_path, stop=stop_after(3))
    assert outcome.endings == {run.key: "stopped"}
    assert "cannot write the checkpoint" in caplog.text
    assert "the state is saved" not in caplog.text


def test_checkpoints_are_kept_where_the_rate_drops_and_can_be_replayed(
    trained: tuple[Path, Run], digits: Path, tmp_path: Path
) -> None:
    undisturbed, run = trained
    source = RunDir(undisturbed, run.key)
    kept = [source.drop_checkpoint(epoch) for epoch in (1, 2)]
    assert sorted(source.path.glob("epoch*.pt")) == kept
    for epoch, path in enumerate(kept, start=1):
        target = RunDir(tmp_path / str(epoch), run.key)
        target.create(run)
        shutil.copy(path, target.checkpoint)
        shutil.copy(source.records, target.records)
        assert train([run], digits, target.root).endings == {run.key: "done"}
        assert numbers(target.root, run) == numbers(undisturbed, run)
        # It was not trained from the start again.
        assert state.read(path)["epoch"] == epoch + 1


def test_keeping_checkpoints_can_be_left_out(digits: Path, tmp_path: Path) -> None:
    (run,) = digits_plan(digits, STUDENT, sets=[*SETS, "recipe.keep_drops=false"]).runs
    train([run], digits, tmp_path)
    assert not list(RunDir(tmp_path, run.key).path.glob("epoch*.pt"))
    # It is the same run: asked for with kept checkpoints it is done already.
    (same,) = digits_plan(digits, STUDENT, sets=SETS).runs
    assert train([same], digits, tmp_path).endings == {run.key: "done"}


def test_a_checkpoint_of_other_networks_fails_its_run_alone(
    trained: tuple[Path, Run], digits: Path, tmp_path: Path
) -> None:
    undisturbed, run = trained
    other = run.model_copy(update={"recipe": run.recipe.model_copy(update={"lr": 0.01})})
    train([other], digits, tmp_path, stop=stop_after(2))
    rundir = RunDir(tmp_path, other.key)
    saved = state.read(rundir.checkpoint)
    saved["student"].popitem()
    state.save(rundir, saved)
    outcome = train([other, run], digits, tmp_path)
    assert outcome.endings == {other.key: "failed", run.key: "done"}
    assert "does not fit its run" in outcome.reasons[other.key]
    assert numbers(tmp_path, run) == numbers(undisturbed, run)


def test_drafts_of_killed_processes_are_cleared_away(
    trained: tuple[Path, Run], digits: Path, tmp_path: Path
) -> None:
    _, run = trained
    rundir = RunDir(tmp_path, run.key)
    rundir.create(run)
    (rundir.path / ".next.pt.abc.tmp").write_bytes(b"half")
    old = rundir.path / ".draft.abc"
    old.touch()
    os.utime(old, (0, 0))
    train([run], digits, tmp_path)
    assert not list(rundir.path.glob(".*"))
