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
from benchmark.slurm.queue import QueueSnapshot, RawQueue, TaskState, parse, read_raw
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


def test_names_and_comments_can_be_read_back() -> None:
    tag = Tag("digits", "digits-x4-s0", "0a1b-0")
    assert parse_tag(tag.job_name, tag.comment) == tag
    assert parse_tag(tag.job_name, "") == Tag("digits", "", "")
    assert parse_tag("other", tag.comment) is None
    odd = Tag("my table", "a|b c", "0a1b-0")
    assert parse_tag(odd.job_name, odd.comment) == Tag(word(odd.table), word(odd.pack), "0a1b-0")


# -- names and comments are other people's text ----------------------------------------------------

ROW = "{job}|N/A|{job}|RUNNING|None|{restarts}|9|9|gres/gpu=1|main|n1|{user}|{name}|{comment}|"
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
