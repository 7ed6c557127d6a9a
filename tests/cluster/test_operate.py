"""Cancel, pause, retry, clean and logs, on real run directories and a recorded queue."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.cluster import inline, queue, slurm
from benchmark.cluster import retry as module
from benchmark.cluster.at_work import at_work, is_at_work
from benchmark.cluster.clean import clean
from benchmark.cluster.find import match
from benchmark.cluster.init_profile import profile_path
from benchmark.cluster.inline import InlineExecutor
from benchmark.cluster.logs import show_log
from benchmark.cluster.look import look
from benchmark.cluster.operate import cancel, pause, resume
from benchmark.cluster.queue import RawQueue
from benchmark.cluster.retry import choose, retry
from benchmark.cluster.slurm import Reply, SlurmUnreachableError
from benchmark.cluster.snapshot import code_store
from benchmark.cluster.work import paused, submitted_tables
from benchmark.errors import UserError
from benchmark.lease import Lease, RunHeldError
from benchmark.packs import Pack
from benchmark.rundir import RunDir
from benchmark.runs import Run
from benchmark.submission import Submission, new_submission
from benchmark.train.watcher import Outcome
from tests.cluster import submitted
from tests.cluster.submitted import age, failed, started
from tests.helpers import SHORT, digits_plan, train

RECORDED = json.loads((Path(__file__).parent / "recorded_queue.json").read_text())
HELD = {**RECORDED, "squeue": RECORDED["squeue"].replace("BeginTime", "JobHeldUser")}


@pytest.fixture(autouse=True)
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Slurm as recorded; the commands that would change it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**RECORDED))
    commands: list[list[str]] = []

    def call(command: list[str], timeout: float = 30.0) -> Reply:
        commands.append(command)
        return Reply(0, "", "", 0.0)

    monkeypatch.setattr(slurm, "call", call)
    return commands


@pytest.fixture(scope="module")
def students(digits: Path) -> list[Run]:
    return list(digits_plan(digits, ["row=Student"], seeds="0-7", sets=SHORT).runs)


@pytest.fixture
def runs_dir(tmp_path: Path, digits: Path, students: list[Run]) -> Path:
    """Six packs of a run, sent as array 96: failed, cancelled, requeued, completed, two run."""
    runs = tmp_path / "runs"
    submitted.in_slurm(runs, digits, [Pack("digits", (run,)) for run in students[:6]], 96)
    return runs


def _state(runs_dir: Path, run: Run) -> str:
    return look(runs_dir).standings[run.key].name


def test_cancelling_marks_the_runs_before_it_tells_slurm(
    runs_dir: Path,
    students: list[Run],
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marked: list[bool] = []

    def call(command: list[str], timeout: float = 30.0) -> Reply:
        marked.extend(RunDir(runs_dir, run.key).cancelled.exists() for run in students[:6])
        called.append(command)
        return Reply(0, "", "", 0.0)

    monkeypatch.setattr(slurm, "call", call)
    lines = cancel(runs_dir, "digits", None, False)
    assert lines[0] == "cancelled 3 runs: 3 tasks taken from Slurm"
    assert called == [["scancel", "96_[2,4-5]"]]
    # What has ended already keeps its own state.
    assert marked == [False, False, True, False, True, True]
    assert _state(runs_dir, students[4]) == "cancelled"


def test_a_run_of_a_pack_is_cancelled_without_its_neighbours(
    tmp_path: Path, digits: Path, students: list[Run], called: list[list[str]]
) -> None:
    pack = Pack("digits", tuple(students[:2]))
    submitted.in_slurm(tmp_path, digits, [pack] * 5, 96)
    cancel(tmp_path, None, students[0].key, False)
    assert called == []
    cancel(tmp_path, None, students[1].key, False)
    assert called == [["scancel", "96_[2,4]"]]


def test_cancelling_while_slurm_is_down_says_that_the_marks_stand(
    runs_dir: Path,
    students: list[Run],
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def down(*question: object) -> RawQueue:
        raise SlurmUnreachableError("slurmctld cannot be reached")

    monkeypatch.setattr(queue, "read_raw", down)
    with pytest.raises(UserError, match=r"6 runs marked .*slurmctld cannot be reached"):
        cancel(runs_dir, None, None, True)
    assert _state(runs_dir, students[5]) == "cancelled"
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**RECORDED))
    lines = cancel(runs_dir, None, None, True)
    assert lines[0].startswith("3 tasks taken from Slurm: all of their runs were cancelled before")
    assert called == [["scancel", "96_[2,4-5]"]]


def test_runs_that_train_on_this_machine_are_told_by_their_mark(
    tmp_path: Path, students: list[Run]
) -> None:
    rundir = started(tmp_path, students[0], epoch=1)
    lease = Lease.acquire(rundir)
    lines = cancel(tmp_path, None, students[0].slug, False)
    assert "1 run in training now: saved and left at the next heartbeat (15 s)" in lines
    assert rundir.cancelled.exists()
    lease.release()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cancel"], "say what to cancel"),
        (["cancel", "--all", "--table", "digits"], "say what to cancel"),
        (["cancel", "--table", "digit"], "did you mean 'digits'"),
        (["retry"], "--failed, --cancelled, or both"),
        (["logs", "nothing-like-it"], "no run 'nothing-like-it'"),
        (["clean", "--older-than", "-1"], "from 0 up"),
        (["status", "--watch", "--json"], "--json prints once"),
        (["init", "slurm", "--profile", "a b"], "letters, digits"),
        (["metrics", "--textfile", "/tmp"], "/tmp is a directory; name a file in it"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BENCH_RUNS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("act", "told", "marked"),
    [
        (
            lambda runs: cancel(runs, None, None, True),
            r"runs? marked as cancelled.*cancel again",
            0,
        ),
        (lambda runs: pause(runs, None), r"1 submission marked as paused.*pause again", 1),
        (lambda runs: resume(runs, None), r"1 submission in Slurm stay paused.*resume again", 1),
    ],
)
def test_what_slurm_is_not_told_is_no_success(
    runs_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Path], list[str]],
    told: str,
    marked: int,
    known: bool,
) -> None:
    if "resume" in told:
        pause(runs_dir, None)
    if known:
        look(runs_dir)  # what it said is kept

    def down(*question: object) -> RawQueue:
        raise SlurmUnreachableError("slurmctld cannot be reached")

    monkeypatch.setattr(queue, "read_raw", down)
    with pytest.raises(UserError, match=f"{told} when it answers"):
        act(runs_dir)
    (folder,) = (runs_dir / ".submissions").iterdir()
    assert bool(paused(folder)) == bool(marked)


def test_slurm_that_stops_in_between_is_no_success_either(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    monkeypatch.setattr(slurm, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "call", lambda command, timeout=0.0: Reply(1, "", refused, 0.1))
    with pytest.raises(UserError, match=r"marked as paused.*slurmctld cannot be reached"):
        pause(runs_dir, None)
    with pytest.raises(UserError, match="stay paused"):
        resume(runs_dir, None)
    with pytest.raises(UserError, match="marked as cancelled"):
        cancel(runs_dir, None, None, True)


def test_broken_marks_still_hold(runs_dir: Path, students: list[Run]) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    for name in ("paused.json", "held.json"):
        (folder / name).write_text("")
    assert f"{folder}/held.json cannot be read" in look(runs_dir).works[students[2].key].held
    (folder / "held.json").unlink()
    assert resume(runs_dir, None) == ["resumed 1 submission"]
    assert paused(folder) is None


def test_pausing_holds_what_waits_and_resuming_releases_it(
    runs_dir: Path, called: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = pause(runs_dir, "digits")
    assert lines[0] == "paused 1 submission: 1 run will not start"
    assert lines[1] == "2 runs in training go on to their end"
    assert called == [["scontrol", "hold", "96"]]
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**HELD))
    assert pause(runs_dir, "digits")[0] == lines[0]
    called.pop()
    assert resume(runs_dir, None) == ["resumed 1 submission"]
    assert called[1:] == [["scontrol", "release", "96"]]
    assert resume(runs_dir, None) == ["resumed 0 submissions"]


def test_resuming_leaves_alone_what_is_held_after_failures(
    runs_dir: Path, called: list[list[str]]
) -> None:
    pause(runs_dir, None)
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "held.json").write_text('{"schema": 1, "reason": "no data"}')
    called.clear()
    assert "held after failures" in resume(runs_dir, None)[-1]
    assert called == []


def test_a_paused_local_queue_starts_nothing(
    tmp_path: Path, digits: Path, students: list[Run]
) -> None:
    folder = submitted.local(tmp_path, digits, [Pack("digits", (students[0],))])
    assert _state(tmp_path, students[0]) == "missing"
    with at_work(folder):
        assert is_at_work(folder)
        assert _state(tmp_path, students[0]) == "queued"
        with pytest.raises(RunHeldError), at_work(folder):
            pass
        pause(tmp_path, None)
        assert paused(folder)
        assert _state(tmp_path, students[0]) == "held"
        resume(tmp_path, None)
        assert _state(tmp_path, students[0]) == "queued"
    assert not is_at_work(folder)


def test_retry_takes_the_runs_back_from_their_packs_up_to_a_cap(
    runs_dir: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(runs_dir, students[0], "no data", count=2)
    failed(runs_dir, students[1], "no data", count=3)
    failed(runs_dir, students[11], "no data")  # of no submission
    seen = look(runs_dir)
    keys = [students[number].key for number in (0, 1, 3, 11)]
    chosen = choose(runs_dir, keys, seen, 3)
    ((origin, runs),) = chosen.runs.items()
    assert [run.key for run in runs] == [students[0].key, students[3].key]
    assert origin.cluster == "slurm"
    assert origin.data_dir == str(digits.resolve())
    assert chosen.worn_out == (students[1].key,)
    assert chosen.lost == (students[11].key,)
    monkeypatch.setattr(module, "executor_for", lambda *names: (InlineExecutor(), "cpu"))
    lines, code = retry(runs_dir, None, failed=True, cancelled=False, dry_run=True)
    assert code == 0
    assert "3 x no data" in lines
    assert "1 run failed alike 3 times" in " ".join(lines)
    assert _state(runs_dir, students[0]) == "failed"


def test_students_whose_teacher_nobody_trains_are_left_out(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"])
    teacher, student = plan.runs
    packs = [Pack("digits", (teacher,)), Pack("digits", (student,))]
    submitted.in_slurm(tmp_path, digits, packs, 96)
    monkeypatch.setattr(module, "executor_for", lambda *names: (InlineExecutor(), "cpu"))
    failed(tmp_path, student, "its teacher has no result")
    RunDir(tmp_path, teacher.key).create(teacher)
    RunDir(tmp_path, teacher.key).cancelled.touch()

    def dry(cancelled: bool = False) -> str:
        lines, _ = retry(tmp_path, None, failed=True, cancelled=cancelled, dry_run=True)
        return " ".join(" ".join(lines).split())

    assert f"1 run left out, since nobody trains their teacher ({teacher.key})" in dry()
    assert "would go" not in dry()
    both = dry(cancelled=True)
    assert "digits: 2 runs would go to slurm" in both
    assert "GB of disk" in both  # the estimate
    RunDir(tmp_path, teacher.key).cancelled.unlink()
    failed(tmp_path, teacher, "no data", count=3)
    assert "1 run left out" in dry()


def test_what_is_held_after_failures_is_sent_anew(
    runs_dir: Path,
    students: list[Run],
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Merely released, a student would start before its teacher, which is retried, is there."""
    sent: list[Run] = []

    class Noting(InlineExecutor):
        def start(self, submission: Submission, wait: bool) -> int:
            sent.extend(run for pack in submission.packs for run in pack.runs)
            return 0

    monkeypatch.setattr(module, "executor_for", lambda *names: (Noting(), "cpu"))
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "held.json").write_text('{"schema": 1, "reason": "no data"}')
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**HELD))
    lines, _ = retry(runs_dir, None, failed=True, cancelled=False)
    assert "held after: no data" in lines
    assert students[2].key in {run.key for run in sent}
    assert called[0] == ["scancel", "96_[2]"]
    assert not (folder / "held.json").exists()


def test_what_is_trained_in_a_process_is_paused_between_packs(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    states: list[str] = []
    run_pack_file = inline.run_pack_file

    def train_then_pause(path: Path, stop: Callable[[], str | None]) -> Outcome:
        found = run_pack_file(path, stop=stop)
        trained.extend(found.endings)
        if len(trained) == 1:
            pause(tmp_path, None)
        return found

    def wait(seconds: float) -> None:
        states.append(_state(tmp_path, students[7]))
        resume(tmp_path, None)

    monkeypatch.setattr(inline, "run_pack_file", train_then_pause)
    monkeypatch.setattr(inline.time, "sleep", wait)
    packs = [Pack("digits", (run,)) for run in students[6:8]]
    submission = new_submission("digits", packs, tmp_path, digits)
    assert InlineExecutor().start(submission, wait=True) == 0
    assert trained == [run.key for run in students[6:8]]
    assert states[-1] == "held"


def test_retry_lifts_the_mark_of_what_was_cancelled_and_trains_it(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted.local(tmp_path, digits, [Pack("digits", (students[6],))])
    cancel(tmp_path, None, students[6].key, False)
    lines, _ = retry(tmp_path, None, failed=True, cancelled=False)
    assert lines == ["nothing to retry (1 run is cancelled: --cancelled)"]
    monkeypatch.setattr(module, "executor_for", lambda *names: (InlineExecutor(), "cpu"))
    lines, code = retry(tmp_path, "digits", failed=False, cancelled=True)
    assert (lines, code) == (["digits: 1 run goes to local again"], 0)
    assert _state(tmp_path, students[6]) == "done"


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

    lines = clean(tmp_path, None, dry_run=True)
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
    assert clean(tmp_path, None) == [f"nothing to remove in {tmp_path}"]


def test_submissions_whose_tasks_live_or_may_live_are_kept(
    runs_dir: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    for run in students[:6]:
        RunDir(runs_dir, run.key).path.mkdir()
        RunDir(runs_dir, run.key).result.write_text('{"schema": 1}')
    clean(runs_dir, None, older_than=0)
    assert folder.exists()  # tasks still wait

    def down(*question: object) -> RawQueue:
        raise SlurmUnreachableError("slurmctld cannot be reached")

    monkeypatch.setattr(queue, "read_raw", down)
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
        RunDir(runs_dir, run.key).path.mkdir()
        RunDir(runs_dir, run.key).result.write_text('{"schema": 1}')
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue("", "", 2e9))
    age(folder, 8 * 86400)
    clean(runs_dir, None)
    assert not folder.exists()
    assert [path.name for path in store.iterdir()] == ["fresh"]


def test_logs_are_found_by_a_part_of_the_runs_name(runs_dir: Path, students: list[Run]) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "96_3_0_log.out").write_text("epoch 1\n")
    out = io.StringIO()
    show_log(runs_dir, students[3].key[:-4], False, out)
    assert out.getvalue() == "epoch 1\n"
    with pytest.raises(UserError, match="task 96_2 has not started"):
        show_log(runs_dir, students[2].key, False)


def test_a_followed_log_ends_with_its_run(
    runs_dir: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    log = folder / "96_4_0_log.out"
    log.write_text("one\n")
    rundir = started(runs_dir, students[4])

    def sleep(_seconds: float) -> None:
        with log.open("a") as file:
            file.write("two\n")
        rundir.result.write_text("{}")

    monkeypatch.setattr("benchmark.cluster.logs.time.sleep", sleep)
    out = io.StringIO()
    show_log(runs_dir, students[4].key, True, out)
    assert out.getvalue() == "one\ntwo\n"


def test_a_followed_log_ends_with_a_run_that_leaves_no_word(
    runs_dir: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Task 96_1 was cancelled with scancel, 96_4 runs until it is cancelled."""
    (folder,) = (runs_dir / ".submissions").iterdir()
    for number in (1, 4):
        (folder / f"96_{number}_0_log.out").write_text("one\n")
        started(runs_dir, students[number])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            RunDir(runs_dir, students[4].key).cancelled.touch()

    monkeypatch.setattr("benchmark.cluster.logs.time.sleep", sleep)
    show_log(runs_dir, students[1].key, True, io.StringIO())
    assert slept == []
    show_log(runs_dir, students[4].key, True, io.StringIO())
    assert len(slept) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("digits-", "names 2 runs: digits-kd-s0-aa, digits-kd-s1-bb; give more"),
        ("kd-s1", None),
        ("digits-kt-s0", "did you mean 'digits-kd-s0-aa'"),
        ("zzz", r"no run 'zzz' in runs \(2 runs\)$"),
    ],
)
def test_names_of_runs(text: str, told: str | None) -> None:
    keys = ["digits-kd-s0-aa", "digits-kd-s1-bb"]
    if told is None:
        assert match(text, keys, Path("runs")) == keys[1]
    else:
        with pytest.raises(UserError, match=told):
            match(text, keys, Path("runs"))


def test_where_a_profile_is_written() -> None:
    wanted: Callable[[str | None], Path | None] = profile_path
    assert wanted(None) is None
    assert wanted("mine") == Path("slurm/profiles/mine.yaml")
    assert wanted(f"x{os.sep}mine.yaml") == Path("x/mine.yaml")
