"""Read what a real cluster answered (Slurm 22.05.8; user renamed).

The recording: an array of six tasks with two GPUs each (0 exited with 3, 1 was cancelled, 2
was requeued, 3 completed, 4 and 5 run), a job whose node was set down and that waits to run
again, an array of 5,000 that depends on it, and a job of another program.
"""

from __future__ import annotations

import pytest

from benchmark.cli.words.status import everybody
from benchmark.monitor.everybody import shares
from benchmark.slurm import commands, queue
from benchmark.slurm.notation import Tag, parse_tag, word
from benchmark.slurm.queue import (
    _SQUEUE,
    QueueRecord,
    QueueSnapshot,
    RawQueue,
    TaskState,
    parse,
    read_raw,
)
from tests.submitted import RECORDED

DIGITS, CIFAR, STUDENTS = 96, 95, 97


@pytest.fixture
def snapshot() -> QueueSnapshot:
    return parse(RawQueue(**RECORDED))


def test_a_waiting_array_is_one_record(snapshot: QueueSnapshot) -> None:
    assert len(snapshot.queued) == 5
    assert sorted((r.tag.table, r.task_state.name, len(r.tasks)) for r in snapshot.queued) == [
        ("cifar100", "requeued", 1),
        ("cifar100", "waiting", 5000),
        ("digits", "requeued", 1),
        ("digits", "running", 1),
        ("digits", "running", 1),
    ]


@pytest.mark.parametrize(
    ("job", "task", "expected"),
    [
        (DIGITS, 0, TaskState("ended", "FAILED")),
        (DIGITS, 1, TaskState("ended", "CANCELLED")),
        (DIGITS, 2, TaskState("requeued", "BeginTime")),
        (DIGITS, 3, TaskState("ended", "COMPLETED")),
        (DIGITS, 4, TaskState("running", "n1")),
        (DIGITS, 6, TaskState("unknown")),
        (STUDENTS, 4999, TaskState("waiting", "Dependency")),
        (STUDENTS, 5000, TaskState("unknown")),
        # sacct says NODE_FAIL, squeue that the same job will run again.
        (CIFAR, 0, TaskState("requeued", "BeginTime")),
    ],
)
def test_what_is_known_of_a_task(
    snapshot: QueueSnapshot, job: int, task: int, expected: TaskState
) -> None:
    assert snapshot.task(job, task) == expected


def test_without_slurmdbd_what_has_left_the_queue_is_unknown_not_gone() -> None:
    snapshot = parse(RawQueue(RECORDED["squeue"], None, RECORDED["taken"]))
    assert not snapshot.accounting
    assert snapshot.task(DIGITS, 4).name == "running"
    assert snapshot.task(DIGITS, 0) == TaskState("unknown")


def test_what_runs_for_sacct_but_not_for_squeue_is_unknown() -> None:
    # Right after a task ended sacct still shows it as running.
    snapshot = parse(RawQueue("", RECORDED["sacct"], RECORDED["taken"]))
    assert snapshot.task(DIGITS, 4) == TaskState("unknown")
    assert snapshot.task(CIFAR, 0) == TaskState("ended", "NODE_FAIL")


def test_arrays_are_found_by_their_nonce(snapshot: QueueSnapshot) -> None:
    assert snapshot.jobs_by_nonce == {
        "0a1b2c3d4e5f-0": DIGITS,
        "112233445566-0": CIFAR,
        "112233445566-1": STUDENTS,
    }


def test_gpu_time_counts_starts_that_were_lost(snapshot: QueueSnapshot) -> None:
    assert snapshot.ended[DIGITS, 2].gpu_seconds == 2 * 3  # then it was requeued
    assert snapshot.ended[DIGITS, 4].gpu_seconds == 0  # runs: squeue has it
    running = [record for record in snapshot.queued if not record.waiting]
    assert [(r.gpus, r.start is not None, r.nodes) for r in running] == [(2, True, "n1")] * 2


TAG = Tag("digits", "x2", "0a1b-0")
NOW = 1_796_061_046.0


def row(**columns: object) -> QueueRecord:
    """Read one line of squeue, as it prints a task that waits but for ``columns``."""
    usual = {
        "ArrayJobID": 19, "ArrayTaskID": 1, "JobID": 19, "State": "PENDING", "Reason": "None",
        "RestartCnt": 0, "StartTime": "N/A", "SubmitTime": int(NOW) - 9, "PriorityLong": 1,
        "tres-alloc": "cpu=1,mem=100M,node=1,billing=1", "tres-per-node": "N/A", "NumNodes": 1,
        "EndTime": "N/A", "Partition": "main", "NodeList": "", "UserName": "lena",
        "Name": TAG.job_name, "Comment": TAG.comment,
    }  # fmt: skip
    values = {**usual, **columns}
    line = "".join(f"{values[name]}\x1f" for name in _SQUEUE)
    (found,) = parse(RawQueue(f"{line}\n", "", NOW)).queued
    return found


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        # scancel, then `scontrol requeue`, of tasks that take seconds to end.
        ({"State": "COMPLETING", "NodeList": "n1", "EndTime": int(NOW)}, ("ending", "n1")),
        (
            {"State": "COMPLETING", "NodeList": "n1", "EndTime": int(NOW) + 3600, "RestartCnt": 1},
            ("running", "n1"),
        ),
        ({"State": "RUNNING", "NodeList": "n1", "EndTime": int(NOW) - 5}, ("running", "n1")),
        ({"Reason": "Dependency"}, ("waiting", "Dependency")),
        ({"Reason": "Dependency", "PriorityLong": 0}, ("waiting", "Dependency")),
    ],
)
def test_what_is_being_ended_neither_waits_nor_runs(
    columns: dict[str, object], state: tuple[str, str]
) -> None:
    assert row(**columns).task_state == TaskState(*state)


@pytest.mark.parametrize(
    ("columns", "detail"),
    [
        ({"Reason": "JobHeldUser"}, "JobHeldUser"),
        ({"Reason": "launch failed requeued held"}, "launch failed requeued held"),
        (
            {"State": "SPECIAL_EXIT", "Reason": "job requeued in held state"},
            "job requeued in held state",
        ),
        # A job of priority 0 is held, whatever the reason is called.
        ({"Reason": "BadConstraints"}, "BadConstraints, held"),
        ({"Reason": "JobHoldMaxRequeue"}, "JobHoldMaxRequeue, held"),
    ],
)
def test_every_hold_is_one(columns: dict[str, object], detail: str) -> None:
    found = row(PriorityLong=0, **columns)
    assert found.task_state.held
    assert found.task_state.detail == detail
    assert not row(Reason="Priority").task_state.held


@pytest.mark.parametrize(
    ("columns", "gpus", "counted"),
    [
        ({"tres-alloc": "cpu=1,mem=100M,node=1,billing=1,gres/gpu=2"}, 2, True),
        # As a cluster prints it whose AccountingStorageTRES has no gres/gpu.
        ({"tres-per-node": "gres:gpu:2"}, 2, False),
        ({"tres-per-node": "gres:gpu:a100:4"}, 4, False),
        ({"tres-per-node": "gres/gpu:1g.5gb:1,tmp:20G"}, 1, False),
        ({"tres-per-node": "gres:tmp:20G"}, 0, True),
        # Asked for on each of its nodes, of which a job that waits may leave the number open.
        ({"tres-per-node": "gres:gpu:4", "NumNodes": 2}, 8, False),
        ({"tres-per-node": "gres:gpu:4", "NumNodes": "2-4"}, 8, False),
    ],
)
def test_gpus_that_slurm_does_not_count_are_as_many_as_were_asked(
    columns: dict[str, object], gpus: int, counted: bool
) -> None:
    found = row(State="RUNNING", **columns)
    assert (found.gpus, found.counted) == (gpus, counted)


def test_names_and_comments_can_be_read_back() -> None:
    tag = Tag("digits", "digits-x4-s0", "0a1b-0")
    assert parse_tag(tag.job_name, tag.comment) == tag
    assert parse_tag(tag.job_name, "") == Tag("digits", "", "")
    assert parse_tag("other", tag.comment) is None
    odd = Tag("my table", "a|b c", "0a1b-0")
    assert parse_tag(odd.job_name, odd.comment) == Tag(word(odd.table), word(odd.pack), "0a1b-0")


# -- names and comments are other people's text ----------------------------------------------------

ROW = (
    "{job}|N/A|{job}|RUNNING|None|{restarts}|9|9|gres/gpu=1|gpu:1|1|1|N/A|main|n1|"
    "{user}|{name}|{comment}|"
)
COMMENT = "bench table=digits pack=a nonce=b-0"


def listed(*rows: dict[str, object]) -> QueueSnapshot:
    usual = {"job": 1, "restarts": 0, "user": "alice", "name": "bench-digits", "comment": COMMENT}
    lines = [ROW.format(**{**usual, **row}) for row in rows]
    return parse(RawQueue("\n".join(lines) + "\n", None, 10.0, separator="|"))


def test_the_separator_of_an_answer_is_known_to_nobody_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def ask(command: list[str], timeout: float) -> str:
        asked.append(command[-1])
        return ""

    monkeypatch.setattr(commands, "ask", ask)
    separators = {read_raw(0.0, accounting=False).separator for _ in range(2)}
    assert len(separators) == 2
    assert all(
        f"Comment:{separator}" in text
        for separator, text in zip(
            [text.rpartition("Comment:")[2] for text in asked], asked, strict=True
        )
    )
    forged = ROW.format(job=7, restarts=0, user="bob", name="bench-digits", comment=COMMENT)
    forged = forged.replace("|", "\x1f")  # what an earlier version would have read as a job
    text = ROW.format(job=1, restarts=0, user="eve", name="bench-digits", comment=f"x\n{forged}")
    separator = queue.new_separator()
    head, tail = text.split("\n")
    answer = f"{head.replace('|', separator)}\n{tail}\n"
    assert parse(RawQueue(answer, None, 10.0, separator=separator)).queued == ()


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_other_line_ends_forge_no_rows(end: str) -> None:
    forged = ROW.format(job=7, restarts=0, user="bob", name="bench-digits", comment="")
    found = listed({"name": "bench-digits", "comment": f"x{end}{forged[:-1]}"}, {"job": 2})
    assert [record.user for record in found.queued] == ["alice"]


def test_an_odd_job_costs_its_own_row() -> None:
    odd = [{"job": "x"}, {"restarts": "many"}, {"restarts": -(10**400)}, {"comment": "|"}]
    assert [record.job for record in listed(*odd, {"job": 5}).queued if record.job > 1] == [5]


def test_names_are_shown_and_not_obeyed() -> None:
    found = listed({"user": "e\x1b[2Jve", "name": "bench-" + "x\x07" * 500, "comment": ""})
    (share,) = shares(found)
    lines = everybody([share])
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 220
    assert "e\\x1b[2Jve" in lines[1]
