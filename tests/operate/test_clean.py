"""What is removed once it is not needed any more, and what stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.cli.words import operate as words
from benchmark.monitor.look import look
from benchmark.operate.clean import clean
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.slurm import queue
from benchmark.slurm.queue import RawQueue
from benchmark.submission.sent import submitted_tables
from benchmark.submission.snapshot import code_store
from perf.synthetic_runs import write_run
from tests import submitted
from tests.helpers import train
from tests.submitted import age, silent, started

pytestmark = pytest.mark.usefixtures("called")


def test_cleaning_keeps_what_results_are_made_of(
    tmp_path: Path, digits: Path, students: list[Run]
) -> None:
    done, unfinished = students[6], students[7]
    folder = submitted.local(tmp_path, digits, [Pack("digits", (done,))])
    open_folder = submitted.local(tmp_path, digits, [Pack("digits", (unfinished,))])
    train([done], digits, tmp_path, checkpoint_seconds=0.0)
    rundir, other = RunDir(tmp_path, done.key), started(tmp_path, unfinished)
    for path in (rundir.drop_checkpoint(1), other.checkpoint):
        path.write_bytes(b"x")
    kept = {p.name for p in (rundir.cell, rundir.result, rundir.records, rundir.weights)}
    before = {path.name for path in rundir.path.iterdir()}
    assert rundir.checkpoint.exists()
    for path in (folder, open_folder):
        age(path, 8 * 86400)

    lines = words.cleaned(clean(tmp_path, None, dry_run=True))
    assert lines[0].startswith("would remove 2 checkpoints of finished runs")
    assert {path.name for path in rundir.path.iterdir()} == before
    clean(tmp_path, None)
    left = {path.name for path in rundir.path.iterdir()}
    assert kept <= left
    assert left & {"last.pt", "previous.pt", "next.pt"} == set()
    assert rundir.drop_checkpoint(1).exists()
    assert other.checkpoint.exists()
    assert not folder.exists()
    assert open_folder.exists()
    # The run is still one of its table's.
    seen = look(tmp_path)
    assert seen.tables == {"digits": (done.key, unfinished.key)}
    assert seen.cells[done.key] == done.cell_key
    assert submitted_tables(tmp_path) == {"digits"}
    clean(tmp_path, None, drops=True)
    assert not rundir.drop_checkpoint(1).exists()
    assert words.cleaned(clean(tmp_path, None)) == [f"nothing to remove in {tmp_path}"]


def test_submissions_whose_tasks_live_or_may_live_are_kept(
    runs_dir: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    for run in students[:6]:
        write_run(runs_dir, run, 50.0)
    clean(runs_dir, None, older_than=0)
    assert folder.exists()  # tasks still wait

    monkeypatch.setattr(queue, "read_raw", silent)
    clean(runs_dir, None, older_than=0)
    assert folder.exists()
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue("", "", 2e9))
    clean(runs_dir, None, older_than=0)
    assert not folder.exists()


def test_copies_of_code_go_with_the_last_submission_that_names_them(
    runs_dir: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    store = code_store(runs_dir)
    used, unused, fresh = (store / name for name in ("used", "unused", "fresh"))
    for path in (used, unused, fresh):
        path.mkdir(parents=True)
    for path in (used, unused):
        age(path, 8 * 86400)
    record = json.loads((folder / "submission.json").read_text())
    (folder / "submission.json").write_text(json.dumps({**record, "code": str(used)}))
    clean(runs_dir, None)
    assert [path.name for path in sorted(store.iterdir())] == ["fresh", "used"]

    for run in students[:6]:
        write_run(runs_dir, run, 50.0)
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue("", "", 2e9))
    age(folder, 8 * 86400)
    clean(runs_dir, None)
    assert not folder.exists()
    assert [path.name for path in store.iterdir()] == ["fresh"]
