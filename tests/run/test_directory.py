"""What the files of a run directory say of its state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.files import write_json
from benchmark.run.directory import RunDir, all_rundirs
from benchmark.run.lease import Lease
from benchmark.run.reading import STATISTICS, read
from benchmark.table.recipe import override
from tests.run.test_identity import RUN


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path, RUN.key)


def test_the_states_of_a_run(rundir: RunDir) -> None:
    assert read(rundir).state == "missing"
    rundir.create(RUN)
    assert read(rundir).state == "stopped"
    lease = Lease.acquire(rundir)
    assert read(rundir).state == "running"
    lease.release()
    write_json(rundir.failure, {"schema": 1, "reason": "none"})
    assert read(rundir).state == "failed"
    lease = Lease.acquire(rundir)
    assert read(rundir).state == "running"  # it is being tried again
    rundir.cancelled.touch()
    assert read(rundir).state == "cancelled"
    same = dict.fromkeys(STATISTICS, 50.0)
    result = {"schema": 1, "key": RUN.key, "metrics": {"top1": same, "top5": same}}
    write_json(rundir.result, {**result, "diverged": False})
    assert read(rundir).state == "done"  # a result counts, whatever else is there
    write_json(rundir.result, {**result, "diverged": True})
    assert read(rundir).state == "diverged"
    lease.release()


def test_what_it_says_it_is(rundir: RunDir) -> None:
    rundir.create(RUN)
    assert rundir.read_run() == RUN
    rundir.create(RUN)
    # Keeping checkpoints is not part of what a run is.
    rundir.create(RUN.model_copy(update={"recipe": override(RUN.recipe, {"keep_drops": False})}))
    rundir.path.rename(rundir.root / "renamed")
    with pytest.raises(UserError, match=f"describes {RUN.key}, not renamed"):
        RunDir(rundir.root, "renamed").read_run()


def test_the_directory_of_another_run_is_refused(rundir: RunDir) -> None:
    rundir.create(RUN)
    other = RUN.model_copy(update={"seed": 9})
    with pytest.raises(UserError, match="belongs to another run"):
        rundir.create(other)
    assert rundir.read_run() == RUN


def test_a_half_written_record_is_left_out(rundir: RunDir) -> None:
    assert rundir.read_records() == []
    rundir.create(RUN)
    rundir.records.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert rundir.read_records() == [{"epoch": 1}, {"epoch": 2}]
    rundir.records.write_text('{"epo')
    assert rundir.read_records() == []


def test_foreign_files_and_folders_are_passed_over(rundir: RunDir) -> None:
    assert list(all_rundirs(rundir.root / "none")) == []
    rundir.create(RUN)
    (rundir.root / "notes.txt").write_text("mine")
    (rundir.root / "empty").mkdir()
    (rundir.root / ".submissions").mkdir()
    assert [found.key for found in all_rundirs(rundir.root)] == [RUN.key]


def test_every_path_lies_in_the_runs_own_directory(rundir: RunDir) -> None:
    names = {name for name, value in vars(RunDir).items() if isinstance(value, property)}
    paths = {name: getattr(rundir, name) for name in names - {"path"}}
    assert {path.parent for path in paths.values()} == {rundir.path}
    assert len({path.name for path in paths.values()}) == len(paths)
    assert rundir.drop_checkpoint(150).name == "epoch0150.pt"


def test_a_cell_is_read_by_any_json_reader(rundir: RunDir) -> None:
    rundir.create(RUN)
    data = json.loads(rundir.cell.read_text())
    assert data["schema"] == 1
    assert data["methods"] == [{"name": "kd", "version": 1, "options": RUN.methods[0].options}]
