"""What a pack does between steps: heartbeats, checkpoints, words, and noting how runs end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.base.errors import UserError
from benchmark.run.identity import Run
from benchmark.run.lease import LeaseLostError
from benchmark.run.state import ENDED, RunState
from benchmark.train.engine import Interrupted
from benchmark.train.history import Evaluation
from benchmark.train.probing import Probes
from benchmark.train.report import PackReporter, default_reporter
from benchmark.train.result import summarise
from benchmark.train.session import Session
from benchmark.train.state import CheckpointError
from benchmark.train.trainee import Trainee

HEARTBEAT_SECONDS = 15.0


@dataclass(frozen=True)
class Surroundings:
    """What a pack is trained amid. Nothing here can change a number.

    ``stop`` returns a reason once the pack should save its state and leave. ``ended``: tasks of
    Slurm that are over, whose leases mean nothing.
    """

    checkpoint_seconds: float = 300.0
    stop: Callable[[], str | None] = lambda: None
    reporter: Callable[[], PackReporter] = default_reporter
    ended: frozenset[str] = frozenset()


@dataclass
class Outcome:
    """How each run of a pack ended, by key, with a line on why if it is not done.

    ``advanced``: whether what lies on disk is further than when the pack began: a result, or
    a checkpoint past the one that a run resumed from. ``unsaved``: why the last checkpoint that
    could not be written was not. ``lost``: what became of another process of the pack.
    """

    endings: dict[str, RunState] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    advanced: bool = False
    unsaved: str = ""
    lost: str = ""

    def note(self, key: str, ending: RunState, reason: str = "") -> None:
        """Say how a run ended."""
        self.endings[key] = ending
        if reason:
            self.reasons[key] = " ".join(reason.split())[:500]

    @property
    def interrupted(self) -> bool:
        """Whether something is left to continue."""
        return RunState.STOPPED in self.endings.values()

    @property
    def exit_code(self) -> int:
        """0 when every run has its result, 1 otherwise."""
        return int(any(ending not in ENDED for ending in self.endings.values()))


class Watcher:
    """Turns what the engine reports into files and words (an engine Listener)."""

    def __init__(
        self,
        sessions: dict[str, Session],
        where: Surroundings,
        outcome: Outcome,
        reporter: PackReporter,
        extra: dict[str, Any],
    ) -> None:
        self.trainees: list[Trainee] = []
        self.probes: Probes | None = None
        self._sessions = sessions
        self._where = where
        self._outcome = outcome
        self._reporter = reporter
        self._extra = extra
        self._beat = self._saved = time.monotonic()
        self._resumed_at: dict[str, tuple[int, int]] = {}

    # -- what the engine says -----------------------------------------------------------------

    def tick(self, trainees: Sequence[Trainee]) -> Sequence[Trainee]:
        """Between steps: stop if asked to, show signs of life, save; returns whom to let go."""
        self.look_for_stop()
        now = time.monotonic()
        if now - self._beat >= HEARTBEAT_SECONDS:
            self._beat = now
            for trainee in trainees:
                if self.holds(trainee.run.key):
                    self._obey_cancel(trainee)
        if now - self._saved >= self._where.checkpoint_seconds:
            for trainee in trainees:
                if trainee.run.key not in self._outcome.endings:
                    self._save(trainee)
            self._saved = time.monotonic()
        self._reporter.step(trainees)
        return [t for t in trainees if t.run.key in self._outcome.endings]

    def epoch_done(self, trainee: Trainee, record: dict[str, Any]) -> None:
        """Write an epoch's record, and the checkpoint to keep where the rate drops."""
        session = self._sessions[trainee.run.key]
        probed: list[str] = []
        if self.probes is not None and record["epoch"] >= 1 and "diverged" not in record:
            probed = self.probes.ask(trainee, record["epoch"])
        session.record(record, probed)
        with contextlib.suppress(OSError):
            session.flush()  # they stay noted, and the end of the run insists on them
        if trainee.keeps_checkpoint() and not trainee.finished:
            self._save(trainee, keep=True)
        self._reporter.epoch(trainee, record)

    def finished(self, trainee: Trainee) -> None:
        """Write a run's result; OSError and UserError where that fails."""
        key = trainee.run.key
        try:
            self._sessions[key].finish(trainee, self._extra)
        except LeaseLostError as error:
            self._lost(key, error)
            return
        self._outcome.advanced = True
        epoch = trainee.diverged_at
        if epoch is None:
            self._outcome.note(key, RunState.DONE)
            return
        reason = f"diverged in epoch {epoch}: the loss became infinite or NaN"
        self._outcome.note(key, RunState.DIVERGED, reason)
        self._reporter.say(f"{key} {reason}")

    def failed(self, trainee: Trainee, error: Exception) -> None:
        """Note a run that raised an error while it trained."""
        self.fail(trainee.run.key, error)

    # -- what the pack says -------------------------------------------------------------------

    def add(self, trainee: Trainee) -> None:
        """Watch over a trainee that stands where its checkpoint left it."""
        self._resumed_at[trainee.run.key] = trainee.position
        self.trainees.append(trainee)

    def look_for_stop(self) -> None:
        """Raise Interrupted if somebody asked the pack to stop."""
        reason = self._where.stop()
        if reason is not None:
            raise Interrupted(reason)

    def holds(self, key: str) -> bool:
        """Show a sign of life for a run; False, and noted, if another process took it."""
        try:
            self._sessions[key].lease.renew()
        except LeaseLostError as error:
            self._lost(key, error)
            return False
        return True

    def end(self, trainee: Trainee) -> None:
        """Write the result of a run that has nothing left to train."""
        try:
            self.finished(trainee)
        except (OSError, UserError) as error:
            self.fail(trainee.run.key, error)

    def measured(self, run: Run, history: Sequence[Evaluation], extra: dict[str, Any]) -> None:
        """Write the result of a run that was evaluated only."""
        session = self._sessions[run.key]
        extra = self._extra | extra
        session.write_result(summarise(run, history, None, [], session.starts, extra))
        self._outcome.advanced = True
        self._outcome.note(run.key, RunState.DONE)

    def fail(self, key: str, error: Exception) -> None:
        """Note that a run failed; the others go on."""
        self._sessions[key].fail(error)
        self._outcome.note(key, RunState.FAILED, str(error) or type(error).__name__)
        self._reporter.say(f"{key} failed: {self._outcome.reasons[key]}")

    def interrupted(self, reason: str, save: bool = True) -> None:
        """Save what is unfinished; one run's full disk is not its neighbours'."""
        saved = save
        for trainee in self.trainees:
            if save and not trainee.torn and trainee.run.key not in self._outcome.endings:
                saved = self._save(trainee) and saved
        for key, session in self._sessions.items():
            if key not in self._outcome.endings:
                gone = session.rundir.cancelled.exists()  # marked first, then interrupted
                self._outcome.note(key, RunState.CANCELLED if gone else RunState.STOPPED, reason)
        self._reporter.say(f"stopped: {reason}" + ("; the state is saved" if saved else ""))

    def _lost(self, key: str, error: LeaseLostError) -> None:
        self._outcome.note(key, RunState.HELD, str(error))
        self._reporter.say(f"{key}: {error}; leaving it alone")

    def _obey_cancel(self, trainee: Trainee) -> None:
        session = self._sessions[trainee.run.key]
        if session.rundir.cancelled.exists():
            self._save(trainee)
            session.lease.release()
            self._outcome.note(
                trainee.run.key, RunState.CANCELLED, "cancelled while it was training"
            )

    def _save(self, trainee: Trainee, keep: bool = False) -> bool:
        key = trainee.run.key
        try:
            self._sessions[key].checkpoint(trainee, keep)
        except LeaseLostError as error:
            self._lost(key, error)
            return False
        except (CheckpointError, OSError) as error:
            # The last good checkpoint is still there, and space may come back.
            self._reporter.say(f"{key}: {error}")
            self._outcome.unsaved = str(error)
            return False
        if trainee.position > self._resumed_at[key]:
            self._outcome.advanced = True
        return True
