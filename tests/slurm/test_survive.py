from __future__ import annotations

import signal

import pytest

from benchmark.slurm.commands import SlurmError, SlurmUnreachableError
from benchmark.slurm.survive import Interruption, JobFacts, decide, settle

USR2, TERM = signal.SIGUSR2, signal.SIGTERM
RUNNING = JobFacts("RUNNING", preempted=False, restarts=1)
PREEMPTED = JobFacts("RUNNING", preempted=True, restarts=1)


@pytest.mark.parametrize(
    ("received", "facts", "advanced", "action"),
    [
        (USR2, RUNNING, True, "requeue"),
        (USR2, RUNNING, False, "leave"),  # a time limit too short for any progress
        (USR2, PREEMPTED, True, "requeue"),  # preempt_send_user_signal
        (TERM, PREEMPTED, True, "requeue"),
        (TERM, PREEMPTED, False, "wait"),  # Slurm requeues it at the end of its grace time
        (TERM, RUNNING, True, "leave"),  # scancel --signal=TERM
        (TERM, JobFacts("COMPLETING", False, 1), True, "leave"),  # scancel
        (USR2, JobFacts("COMPLETING", False, 1), True, "leave"),  # cancelled while it saved
        (TERM, JobFacts("COMPLETING", False, 2), True, "leave"),  # requeued by somebody
        (TERM, JobFacts("PENDING", False, 2), True, "leave"),  # its node was set down
        (TERM, None, True, "leave"),
    ],
)
def test_what_each_interruption_means(
    received: signal.Signals, facts: JobFacts | None, advanced: bool, action: str
) -> None:
    decision = decide(received, facts, restarts=1, advanced=advanced, cancelled=False)
    assert decision.action == action
    # Slurm takes 0 for finished: a preempted job that exits so never comes back.
    assert decision.code != 0


@pytest.mark.parametrize("facts", [RUNNING, PREEMPTED, None])
def test_a_run_marked_as_cancelled_never_requeues(facts: JobFacts | None) -> None:
    decision = decide(USR2, facts, restarts=1, advanced=True, cancelled=True)
    assert decision.action == "leave"


def test_settle_asks_until_slurm_answers() -> None:
    answers: list[JobFacts | Exception | None] = [
        SlurmUnreachableError("busy"),
        SlurmUnreachableError("down"),
        PREEMPTED,
    ]
    requeued: list[str] = []

    def look(job: str) -> JobFacts | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    decision = settle(
        TERM,
        job="7",
        restarts=1,
        advanced=True,
        cancelled=False,
        look=look,
        again=requeued.append,
        stay=lambda: None,
    )
    assert (decision.action, requeued, answers) == ("requeue", ["7"], [])


def test_a_requeue_that_slurm_refuses_is_looked_at_again() -> None:
    facts = [RUNNING, JobFacts("COMPLETING", False, 2)]

    def refuse(job: str) -> None:
        raise SlurmError("Job is pending execution")

    decision = settle(
        USR2,
        job="7",
        restarts=1,
        advanced=True,
        cancelled=False,
        look=lambda job: facts.pop(0),
        again=refuse,
        stay=lambda: None,
    )
    assert decision.reason == "requeued by Slurm"


def test_the_first_signal_is_the_reason() -> None:
    before = {number: signal.getsignal(number) for number in (USR2, TERM)}
    try:
        interruption = Interruption().install()
        assert not interruption
        signal.raise_signal(USR2)
        signal.raise_signal(TERM)
        assert interruption.received == USR2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_full_disk_is_not_called_a_time_limit() -> None:
    facts = JobFacts("RUNNING", False, 0)
    found = decide(
        signal.SIGUSR2, facts, restarts=0, advanced=False, cancelled=False, unsaved="No space left"
    )
    assert found.reason == "its state could not be saved: No space left"
