"""What a task does when Slurm interrupts it: come back, or stay away.

A signal only sets a flag; the training loop writes a checkpoint at its next step and returns;
then Slurm is asked what the signal meant. Measured on Slurm 22.05, at a signal:

=====================  ==========  ===========  ============
what happened          JobState    PreemptTime  Restarts
=====================  ==========  ===========  ============
time limit is near     RUNNING     None         as at start
preemption begins      RUNNING     a time       as at start
requeued (by anybody)  COMPLETING  None         one more
node set down          PENDING     None         one more
cancelled              COMPLETING  None         as at start
time limit is over     COMPLETING  None         as at start
=====================  ==========  ===========  ============

Imports no torch.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Literal, NamedTuple

from benchmark.base.log import say
from benchmark.slurm import commands

# A job that loses its slurmctld goes on asking: it has nothing better to do.
_PATIENCE_SECONDS = 600.0
# Exit codes of a task that was interrupted: never 0, since Slurm would take it for finished.
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL
EXIT_CANCELLED = 128 + signal.SIGTERM

Action = Literal["requeue", "wait", "leave"]


class Interruption:
    """Turns Slurm's signals into a flag that the training loop looks at between steps."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def install(self) -> Interruption:
        """Handle USR2 (the time limit is near) and TERM (preempted or cancelled)."""
        signal.signal(signal.SIGUSR2, self._receive)
        signal.signal(signal.SIGTERM, self._receive)
        return self

    def __bool__(self) -> bool:
        return self.received is not None

    def name(self) -> str | None:
        """Return the name of what was received, None if nothing was."""
        return self.received.name if self.received else None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # TERM after USR2 is part of the same end; TERM alone needs a look at Slurm.
        if self.received is None:
            self.received = signal.Signals(number)


class JobFacts(NamedTuple):
    """What ``scontrol show job`` says of this job."""

    state: str
    preempted: bool
    restarts: int


class Decision(NamedTuple):
    """What to do after the checkpoint, the exit code, and the reason in words."""

    action: Action
    code: int
    reason: str


def decide(
    received: signal.Signals,
    facts: JobFacts | None,
    *,
    restarts: int,
    advanced: bool,
    cancelled: bool,
    unsaved: str = "",
) -> Decision:
    """Decide after an interruption.

    ``facts``: None where slurmctld does not know the job any more. ``restarts``: this start's
    SLURM_RESTART_COUNT. ``advanced``: whether the checkpoint is further than when this start
    began. ``cancelled``: whether ``bench cancel`` has marked the runs. ``unsaved``: why its state
    could not be saved, if that is so.

    ``requeue`` asks Slurm to start the job again; ``wait`` stays until Slurm ends the process,
    which then decides as its preemption mode says; ``leave`` exits with ``code``.
    """
    if cancelled:
        return Decision("leave", EXIT_CANCELLED, "cancelled")
    if facts is None:
        return Decision("leave", EXIT_INTERRUPTED, "Slurm does not know this job any more")
    if facts.restarts > restarts:
        return Decision("leave", EXIT_INTERRUPTED, "requeued by Slurm")
    if facts.state != "RUNNING":
        return Decision("leave", EXIT_CANCELLED, f"ended by Slurm ({facts.state})")
    if received == signal.SIGTERM and not facts.preempted:
        # For example `scancel --signal=TERM`: somebody wants it to stop.
        return Decision("leave", EXIT_CANCELLED, "told to stop")
    if advanced:
        why = "preempted" if facts.preempted else "the time limit is near"
        return Decision("requeue", EXIT_INTERRUPTED, why)
    if facts.preempted:
        return Decision("wait", EXIT_INTERRUPTED, "preempted before it could do anything")
    if unsaved:
        return Decision("leave", EXIT_INTERRUPTED, f"its state could not be saved: {unsaved}")
    return Decision(
        "leave",
        EXIT_INTERRUPTED,
        "no progress since this start: a time limit is too short for a single checkpoint",
    )


def job_facts(job: str) -> JobFacts | None:
    """Ask Slurm about a job; None if it does not know it.

    Raises SlurmUnreachableError after ten minutes without an answer.
    """
    command = ["scontrol", "show", "job", "--oneliner", job]
    try:
        text = commands.ask(command, patience=_PATIENCE_SECONDS)
    except commands.SlurmUnreachableError:
        raise
    except commands.SlurmError as error:
        if "Invalid job id" in str(error):
            return None
        raise
    found = dict(re.findall(r"(\w+)=(\S*)", text))
    return JobFacts(
        state=found.get("JobState", "UNKNOWN"),
        preempted=found.get("PreemptTime", "None") not in ("None", "Unknown", ""),
        restarts=int(found.get("Restarts", "0")),
    )


def requeue(job: str) -> None:
    """Ask Slurm to start a running job again later; SlurmError if it refuses."""
    commands.ask(["scontrol", "requeue", job], patience=_PATIENCE_SECONDS)


def settle(
    received: signal.Signals,
    *,
    job: str,
    restarts: int,
    advanced: bool,
    cancelled: bool,
    unsaved: str = "",
    look: Callable[[str], JobFacts | None] = job_facts,
    again: Callable[[str], None] = requeue,
    stay: Callable[[], None] = lambda: time.sleep(5),
) -> Decision:
    """Decide and act; returns what the process has to exit with.

    While slurmctld does not answer, the process stays: its checkpoint is safe, and Slurm will
    end it. A requeue that Slurm refuses (it has begun one itself) is looked at again.
    """
    while True:
        try:
            facts = look(job)
            decision = decide(
                received,
                facts,
                restarts=restarts,
                advanced=advanced,
                cancelled=cancelled,
                unsaved=unsaved,
            )
            if decision.action == "requeue":
                again(job)
            if decision.action != "wait":
                return decision
        except commands.SlurmUnreachableError as error:
            say(f"waiting for Slurm: {error}")
        except commands.SlurmError as error:
            say(f"not requeued: {error}")
        stay()


def this_job() -> tuple[str, int] | None:
    """Return this process's job and restart count, None outside Slurm.

    A task is named ``1234_5``: one task of an array has the array's own number as its
    SLURM_JOB_ID, and what is asked for that number happens to the whole array.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return job, int(os.environ.get("SLURM_RESTART_COUNT", "0"))
