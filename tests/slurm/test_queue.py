"""Read what a real cluster answered (Slurm 22.05.8; user renamed).

The recording: an array of six tasks with two GPUs each (0 exited with 3, 1 was cancelled, 2
was requeued, 3 completed, 4 and 5 run), a job whose node was set down and that waits to run
again, an array of 5,000 that depends on it, and a job of another program.
"""

from __future__ import annotations

import pytest

from benchmark.slurm.notation import Tag, parse_tag, word
from benchmark.slurm.queue import QueueSnapshot, RawQueue, TaskState, parse
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
