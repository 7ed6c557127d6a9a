"""What `bench status` says of real run directories and of a recorded queue."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmark.base.errors import UserError
from benchmark.cli import watching
from benchmark.cli.watching import repeat
from benchmark.cli.words.status import WIDTH
from benchmark.cli.words.status import status as to_lines
from benchmark.monitor.failures import group
from benchmark.monitor.look import look
from benchmark.monitor.metrics import metrics_text
from benchmark.monitor.status import read_status, refresh_seconds
from benchmark.monitor.summary import TableStatus
from benchmark.monitor.values import to_json
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import Lease
from benchmark.slurm import queue
from benchmark.slurm.queue import RawQueue
from tests import submitted
from tests.helpers import SHORT, digits_plan, train
from tests.submitted import RECORDED, UNCOUNTED, age, failed, silent, started

Ask = Callable[..., None]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def slurm_says(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that sets what squeue and sacct answer, and does something meanwhile."""

    def answer(raw: dict[str, object] = RECORDED, meanwhile: Callable[[], object] = int) -> None:
        def read_raw(*question: object) -> RawQueue:
            meanwhile()
            return RawQueue(**raw)

        monkeypatch.setattr(queue, "read_raw", read_raw)

    return answer


@pytest.fixture(scope="module")
def students(digits: Path) -> list[Run]:
    """Runs of the digits table that need no teacher, with a short recipe."""
    return list(digits_plan(digits, ["row=Student"], seeds="0-5", sets=SHORT).runs)


def _packs(runs: list[Run], table: str = "digits") -> list[Pack]:
    return [Pack(table, (run,)) for run in runs]


def _one(runs_dir: Path, data: Path, table: str | None = None) -> TableStatus:
    (found,) = read_status(runs_dir, data, table).tables
    return found


def test_tasks_and_files_together(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    submitted.in_slurm(tmp_path, digits, _packs(students[:6]), 96)
    submitted.in_slurm(tmp_path, digits, _packs(students[6:7], "cifar100"), 95)
    slurm_says()
    cifar, found = read_status(tmp_path, digits).tables
    assert dict(found.runs) == {"failed": 1, "stopped": 2, "queued": 1, "running": 2}
    assert [item.reason for item in found.failures] == ["Slurm ended its task: FAILED"]
    assert found.requeued == {"BeginTime": 1}
    # Three seconds of two GPUs each were lost twice; two tasks run since five and six seconds.
    assert found.gpu_hours * 3600 == pytest.approx(2 * (3 + 3 + 5 + 6), abs=0.5)
    # sacct calls this node failure an end; squeue knows that it will run again.
    assert dict(cifar.runs) == {"queued": 1}
    assert cifar.requeued == {"BeginTime": 1}
    assert cifar.failures == ()


def test_cells_of_a_table_and_what_is_missing(tmp_path: Path, digits: Path) -> None:
    plan = digits_plan(digits, ["row=Student", "column=wrn_40_2-wrn_16_1"])
    train(plan.runs, digits, tmp_path)
    text = (Path(__file__).parents[2] / "tables" / "digits.yaml").read_text()
    table = tmp_path / "short.yaml"
    head = "name: short\nrecipe_overrides: {epochs: 2, eval_every: 1, schedule: {milestones: [1]}}"
    table.write_text(text.replace("name: digits", head))
    found = _one(tmp_path, digits, str(table))
    # The seeds of a cell are done together or not at all.
    assert dict(found.cells) == {"missing": 16}
    assert dict(found.runs) == {"done": 1, "missing": 47}
    assert found.hours > 0
    assert found.gpu_hours == 0
    other = _one(tmp_path, digits)
    assert (other.table, dict(other.cells)) == ("other runs", {"done": 1})


def test_what_is_missing_is_told_where_the_table_is_known(
    tmp_path: Path, digits: Path, students: list[Run]
) -> None:
    whole = list(digits_plan(digits, ["row=Student"], sets=()).runs)
    submitted.local(tmp_path, digits, _packs(whole[:1]))
    submitted.local(tmp_path, digits, _packs(students[:1], "mine"))
    RunDir(tmp_path, students[0].key).create(students[0])
    status = read_status(tmp_path, digits)
    known, mine = status.tables
    assert (known.table, known.runs["missing"]) == ("digits", 48)
    shown, unknown = to_json(status)["tables"]
    assert (shown["runs"]["missing"], unknown["runs"]["missing"]) == (48, None)
    heads = [line for line in to_lines(status) if line.startswith(("digits", "mine"))]
    assert ["missing" in line for line in heads] == [True, False]
    text = metrics_text([known.metrics, mine.metrics], 0.0)
    assert 'table="digits"' in text
    assert 'state="missing",table="mine"' not in text


def test_runs_of_a_table_that_has_other_settings_miss_nothing(
    tmp_path: Path, digits: Path, students: list[Run]
) -> None:
    submitted.local(tmp_path, digits, _packs(students[:2]))
    assert not _one(tmp_path, digits).planned


def test_a_run_that_ends_while_slurm_is_asked_is_done(
    tmp_path: Path, digits: Path, slurm_says: Ask
) -> None:
    (run,) = digits_plan(digits, ["row=Student", "column=wrn_40_2-wrn_16_1"]).runs
    submitted.in_slurm(tmp_path, digits, _packs([run] * 4), 96)
    raw = {**RECORDED, "squeue": ""}
    slurm_says(raw, meanwhile=lambda: train([run], digits, tmp_path))
    assert dict(_one(tmp_path, digits).runs) == {"done": 1}


def test_gpus_that_slurm_does_not_count_are_those_that_were_asked(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    slurm_says()
    folder = submitted.in_slurm(tmp_path, digits, _packs(students[:6]), 96)
    counted = _one(tmp_path, digits).gpu_hours
    assert counted > 0
    slurm_says(UNCOUNTED)
    record = json.loads((folder / "submission.json").read_text())
    record["arrays"][0]["gpus"] = 2
    (folder / "submission.json").write_text(json.dumps(record))
    assert _one(tmp_path, digits).gpu_hours == pytest.approx(counted)


def test_why_tasks_wait_is_told(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    submitted.in_slurm(tmp_path, digits, _packs(students[:4]), 97)
    reasons = {"Dependency": "", "PartitionDown": "", "AssocMaxWallDurationPerJobLimit": "cannot"}
    for reason, said in reasons.items():
        slurm_says({**RECORDED, "squeue": RECORDED["squeue"].replace("Dependency", reason)})
        found = read_status(tmp_path, digits)
        assert dict(found.tables[0].waiting) == {reason: 4}
        assert json.loads(json.dumps(to_json(found)))["tables"][0]["waiting"] == {reason: 4}
        text = " ".join(" ".join(to_lines(found)).split())
        assert f"waiting 4 runs ({reason})" in text
        assert ("it cannot start so: cancel it" in text) == bool(said)


def test_a_run_whose_task_slurm_has_ended_is_not_kept_by_its_lease(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    """Killed a moment ago, on a node that this machine knows nothing of."""
    submitted.in_slurm(tmp_path, digits, _packs(students[:2]), 96)
    rundir = started(tmp_path, students[1])
    Lease.acquire(rundir)
    task = {"host": "elsewhere", "array_job": "96", "array_task": "1"}
    rundir.lease.write_text(json.dumps(json.loads(rundir.lease.read_text()) | task))
    slurm_says({**RECORDED, "taken": time.time() + 1})
    assert dict(_one(tmp_path, digits).runs) == {"failed": 1, "stopped": 1}
    # It gave a sign of life since Slurm was asked.
    slurm_says({**RECORDED, "taken": time.time() - 60})
    assert dict(_one(tmp_path, digits).runs) == {"failed": 1, "running": 1}


def test_stuck_slow_and_dead_runs_are_told_apart(
    tmp_path: Path, digits: Path, students: list[Run]
) -> None:
    quiet, slow, well, dead = (started(tmp_path, run, epoch=1, seconds=2.0) for run in students[:4])
    leases = [Lease.acquire(rundir) for rundir in (quiet, slow, well)]
    age(quiet.lease, 700)
    age(quiet.records, 700)
    age(slow.records, 400)
    code = (
        "import sys; from pathlib import Path; from benchmark.run.lease import Lease;"
        "from benchmark.run.directory import RunDir; "
        "Lease.acquire(RunDir(Path(sys.argv[1]), sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), dead.key], check=True)
    age(dead.lease, 700)
    found = _one(tmp_path, digits)
    assert dict(found.runs) == {"running": 2, "stopped": 2}
    assert [(item.run, item.seconds > 690) for item in found.stuck] == [(quiet.key, True)]
    assert [(item.run, item.progress) for item in found.slow] == [(slow.key, "epoch 1/2")]
    assert found.images_per_second == 1000
    assert found.heartbeat_age is not None
    assert found.heartbeat_age > 690
    # Each has one epoch of 2 s left, which it shares with another run.
    assert found.hours_left is not None
    assert found.hours_left * 3600 == pytest.approx(2 * 1.0)
    text = "\n".join(to_lines(read_status(tmp_path, digits)))
    assert "no sign of life for 11 min" in text
    for lease in leases:
        lease.release()


def test_failures_that_are_alike_are_one_group_with_the_logs_last_lines(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    folder = submitted.in_slurm(tmp_path, digits, _packs(students[:4]), 96)
    for number, run in enumerate(students[:3]):
        failed(tmp_path, run, f"out of memory after {number} MB", when=1.8e9)
    # The reason itself is not shown twice.
    ended = "out of memory  after 0 MB\nsrun: error: n1: task 0: Exited with exit code 1\n"
    (folder / "96_0_0_log.out").write_text("one\ntwo\n\nthree\r\nfour\n" + ended)
    slurm_says({**RECORDED, "squeue": ""})
    status = read_status(tmp_path, digits)
    (found,) = status.tables[0].failures
    assert len(found.runs) == 3
    assert found.lines == ("two", "three", "four")
    text = "\n".join(to_lines(status))
    assert "3 runs: out of memory after 0 MB" in text
    assert "| four" in text
    assert group([]) == ()


def test_a_failure_that_only_the_task_noted_is_shown(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    folder = submitted.in_slurm(tmp_path, digits, _packs(students[:1]), 96)
    (folder / "failures").mkdir()
    reason = {"schema": 1, "reason": "the digits data is not here"}
    (folder / "failures" / "96_0.json").write_text(json.dumps(reason))
    slurm_says()
    (found,) = _one(tmp_path, digits).failures
    assert (found.reason, found.task) == ("the digits data is not here", "96_0")


def test_tasks_that_slurm_ended_are_attempts(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    """What was killed cannot note itself how often it was tried."""
    for _ in range(3):
        submitted.in_slurm(tmp_path, digits, _packs(students[:1]), 96)
    slurm_says()
    assert look(tmp_path).standings[students[0].key].attempts == 3
    failed(tmp_path, students[0], "no data", when=4e9)  # the last attempt did
    assert look(tmp_path).standings[students[0].key].attempts == 1


def test_without_an_answer_the_files_are_shown_and_why(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted.in_slurm(tmp_path, digits, _packs(students[:3]), 96)
    started(tmp_path, students[0], epoch=1)
    failed(tmp_path, students[1], "no data")

    monkeypatch.setattr(queue, "read_raw", silent)
    status = read_status(tmp_path, digits)
    # What Slurm might know is not called missing.
    assert dict(status.tables[0].runs) == {"stopped": 1, "failed": 1, "unknown": 1}
    assert to_lines(status)[0].startswith("warning: slurmctld cannot be reached")


def test_an_old_answer_says_how_old_it_is(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted.in_slurm(tmp_path, digits, _packs(students[:6]), 96)
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**RECORDED))
    read_status(tmp_path, digits)

    monkeypatch.setattr(queue, "read_raw", silent)
    status = read_status(tmp_path, digits)
    assert re.search(
        r"slurmctld cannot be reached; this is what it said \d+ s ago", status.warnings[0]
    )
    assert status.tables[0].runs["running"] == 2


def test_without_slurmdbd_what_ended_is_known_from_files(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    submitted.in_slurm(tmp_path, digits, _packs(students[:6]), 96)
    failed(tmp_path, students[0], "no data")
    slurm_says({**RECORDED, "sacct": None, "taken": time.time()})
    status = read_status(tmp_path, digits)
    assert dict(status.tables[0].runs) == {"failed": 1, "unknown": 2, "queued": 1, "running": 2}
    assert "no answer from sacct" in status.warnings[0]


def test_without_any_accounting_what_left_the_queue_has_ended(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    """Then squeue is all there is to know, and no warning is due each time."""
    submitted.in_slurm(tmp_path, digits, _packs(students[:6]), 96)
    failed(tmp_path, students[0], "no data")
    slurm_says({**RECORDED, "sacct": None, "disabled": True, "taken": time.time()})
    status = read_status(tmp_path, digits)
    assert dict(status.tables[0].runs) == {"failed": 1, "stopped": 2, "queued": 1, "running": 2}
    assert status.warnings == ()


def test_what_is_newer_than_the_answer_is_queued(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    slurm_says({**RECORDED, "taken": time.time() - 20})
    submitted.in_slurm(tmp_path, digits, _packs(students[:2]), 197)
    assert dict(_one(tmp_path, digits).runs) == {"queued": 2}


def test_an_unknown_table_is_named_with_the_nearest(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'digits'"):
        read_status(tmp_path, digits, "digit")


def test_lines_fit_and_json_counts_the_same(
    tmp_path: Path, digits: Path, students: list[Run], slurm_says: Ask
) -> None:
    submitted.in_slurm(tmp_path, digits, _packs(students[:6]), 96)
    failed(tmp_path, students[0], "a reason that goes on " * 10 + "to /its/decisive/word")
    slurm_says()
    status = read_status(tmp_path, digits)
    lines = to_lines(status)
    assert max(map(len, lines)) <= WIDTH
    text = " ".join("\n".join(lines).split())
    assert "a reason that goes on " * 10 + "to /its/decisive/word" in text
    data = json.loads(json.dumps(to_json(status), allow_nan=False))
    assert data["schema"] == 1
    (table,) = data["tables"]
    shown = dict(zip(lines[0].split()[1:], lines[2].split()[1:], strict=True))
    assert {k: int(v.replace(".", "0")) for k, v in shown.items()} == {
        state: count for state, count in table["runs"].items() if state in shown
    }
    assert sum(number or 0 for number in table["runs"].values()) == 6


def test_watchers_never_ask_more_than_twice_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", sleep)
    ages: list[float] = []

    def lines(max_age: float) -> list[str]:
        ages.append(max_age)
        return ["digits"]

    with pytest.raises(KeyboardInterrupt):
        repeat(lines, dict, watch=True, as_json=False, every=refresh_seconds())
    assert min(slept) >= 30
    assert min(ages) >= 30
    assert capsys.readouterr().out.count("digits\n") == 3  # blocks, no live display
    with pytest.raises(UserError, match="--json prints once"):
        repeat(lines, dict, watch=True, as_json=True, every=30)


def test_prometheus_gets_the_same_numbers(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark import cli

    runs_dir, target = tmp_path / "runs", tmp_path / "bench.prom"
    submitted.local(runs_dir, digits, _packs([students[0], students[6]]))
    failed(runs_dir, students[0], "no data")
    words = ["bench", "metrics", "--textfile", str(target), "--runs", str(runs_dir)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    cells = {
        sample.labels["state"]: sample.value
        for family in text_string_to_metric_families(target.read_text())
        for sample in family.samples
        if sample.name == "bench_cells"
    }
    assert (cells["failed"], cells["missing"], cells["done"]) == (1, 1, 0)
