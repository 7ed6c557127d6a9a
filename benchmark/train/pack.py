"""Train one pack from its description: what every executor runs, here or on a cluster."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from benchmark.data.augmentations import augmentation_info
from benchmark.data.batches import Batches
from benchmark.data.datasets import dataset_identity, require_dataset
from benchmark.data.open import open_batches
from benchmark.errors import UserError
from benchmark.lease import Lease, LeaseLostError, RunHeldError
from benchmark.methods.catalog import add_plugin, method_info
from benchmark.models import model_info
from benchmark.rundir import RunDir
from benchmark.runs import ENGINE_VERSION, SCHEMA, Run
from benchmark.train.engine import Engine, Interrupted
from benchmark.train.evaluate import evaluate
from benchmark.train.report import Reporter, default_reporter
from benchmark.train.result import summarise
from benchmark.train.session import Session
from benchmark.train.state import CheckpointError
from benchmark.train.teacher import LoadedTeacher, load_public, load_teacher
from benchmark.train.trainee import Evaluation, Trainee, World
from benchmark.yamlfile import validate

HEARTBEAT_SECONDS = 15.0
Ending = Literal["done", "diverged", "failed", "held", "cancelled", "interrupted"]


@dataclass(frozen=True)
class Surroundings:
    """Where a pack is trained. Nothing here can change a number.

    ``stop`` returns a reason once the pack should save its state and leave; ``reader`` None
    chooses by what the dataset offers.
    """

    runs_dir: Path
    data_dir: Path
    reader: Literal["resident", "ffcv"] | None = None
    checkpoint_seconds: float = 300.0
    stop: Callable[[], str | None] = lambda: None
    reporter: Callable[[], Reporter] = default_reporter


@dataclass
class Outcome:
    """How each run of a pack ended, by key, with a line on why where it is not done."""

    endings: dict[str, Ending] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def note(self, key: str, ending: Ending, reason: str = "") -> None:
        """Say how a run ended."""
        self.endings[key] = ending
        if reason:
            self.reasons[key] = reason

    @property
    def interrupted(self) -> bool:
        """Whether something is left to continue."""
        return "interrupted" in self.endings.values()

    @property
    def exit_code(self) -> int:
        """0 when every run has its result, 1 otherwise."""
        return int(any(e not in ("done", "diverged") for e in self.endings.values()))


def read_pack(data: dict[str, Any]) -> list[Run]:
    """Return a pack's runs from its JSON, its plug-ins registered.

    Raises UserError where this code would train other numbers than those that were planned.
    """
    if data.get("schema") != SCHEMA:
        raise UserError(f"the pack has schema {data.get('schema')}, this version reads {SCHEMA}")
    for path in data["plugins"]:
        add_plugin(Path(path))
    runs = [validate(Run, item, "pack") for item in data["runs"]]
    for run in runs:
        _check_versions(run)
    return runs


def train_pack(data: dict[str, Any], where: Surroundings) -> Outcome:
    """Train all runs of a pack that need it, and return how each of them ended.

    Runs that have a result, are cancelled or are held by another process are left alone.
    """
    runs = read_pack(data)
    outcome = Outcome()
    sessions: dict[str, Session] = {}
    reporter = where.reporter()
    try:
        for run in runs:
            session = _open(run, where, outcome, reporter)
            if session is not None:
                sessions[run.key] = session
        mine = [run for run in runs if run.key in sessions]
        if mine:
            _train(data["label"], mine, sessions, where, outcome, reporter)
    except (UserError, OSError) as error:
        for key, session in sessions.items():
            if key not in outcome.endings:
                session.fail(error)
                outcome.note(key, "failed", str(error))
    finally:
        for session in sessions.values():
            session.lease.release()
        reporter.close()
    return outcome


def _open(run: Run, where: Surroundings, outcome: Outcome, reporter: Reporter) -> Session | None:
    rundir = RunDir(where.runs_dir, run.key)
    rundir.create(run)
    state = rundir.state()
    if state in ("done", "diverged"):
        outcome.note(run.key, "done" if state == "done" else "diverged")
        return None
    if rundir.cancelled.exists():
        outcome.note(run.key, "cancelled", "the run is cancelled")
        reporter.say(f"{run.key} is cancelled; leaving it alone")
        return None
    try:
        lease = Lease.acquire(rundir)
    except RunHeldError as error:
        outcome.note(run.key, "held", str(error))
        reporter.say(str(error))
        return None
    if rundir.result.exists():  # finished by another process in between
        lease.release()
        outcome.note(run.key, "done")
        return None
    return Session(rundir, lease)


def _train(
    label: str,
    runs: Sequence[Run],
    sessions: dict[str, Session],
    where: Surroundings,
    outcome: Outcome,
    reporter: Reporter,
) -> None:
    first = runs[0]
    _prepare_process(first)
    batches = _open_data(first, where)
    extra: dict[str, Any] = {"dataset_digest": first.dataset.digest}
    if first.weights is not None:
        for run in runs:
            _evaluate_public(run, sessions[run.key], batches, extra, outcome)
        return
    teacher: LoadedTeacher | None = None
    if first.teacher is not None:
        teacher = load_teacher(first, batches.num_classes, where.runs_dir)
        extra["teacher_digest"] = teacher.digest
    world = World(batches.image_shape, batches.num_classes, batches.labels, batches.steps_per_epoch)
    network = teacher.network if teacher else None
    trainees: list[Trainee] = []
    watcher = _Watcher(sessions, where, outcome, reporter, extra)
    for run in runs:
        try:
            trainee = Trainee(run, world, network)
            sessions[run.key].resume(trainee)
        except CheckpointError as error:
            watcher.failed_run(run.key, error)
            continue
        trainees.append(trainee)
    reporter.started(label, trainees)
    for trainee in trainees:
        if trainee.finished:  # killed between its last checkpoint and its result
            watcher.finished(trainee)
    try:
        Engine(trainees, batches, network, watcher).train()
    except Interrupted as stop:
        reason = str(stop)
        for trainee in trainees:
            if trainee.run.key not in outcome.endings:
                sessions[trainee.run.key].checkpoint(trainee)
                outcome.note(trainee.run.key, "interrupted", reason)
        reporter.say(f"stopped: {reason}; the state is saved")


class _Watcher:
    """Turns what the engine reports into files and words (an engine Listener)."""

    def __init__(
        self,
        sessions: dict[str, Session],
        where: Surroundings,
        outcome: Outcome,
        reporter: Reporter,
        extra: dict[str, Any],
    ) -> None:
        self._sessions = sessions
        self._where = where
        self._outcome = outcome
        self._reporter = reporter
        self._extra = extra
        self._beat = self._saved = time.monotonic()

    def tick(self, trainees: Sequence[Trainee]) -> Sequence[Trainee]:
        reason = self._where.stop()
        if reason is not None:
            raise Interrupted(reason)
        now = time.monotonic()
        dropped: list[Trainee] = []
        if now - self._beat >= HEARTBEAT_SECONDS:
            self._beat = now
            dropped = [trainee for trainee in trainees if not self._still_ours(trainee)]
        if now - self._saved >= self._where.checkpoint_seconds:
            for trainee in trainees:
                if trainee not in dropped:
                    self._save(trainee)
            self._saved = time.monotonic()
        return dropped

    def _still_ours(self, trainee: Trainee) -> bool:
        session = self._sessions[trainee.run.key]
        try:
            session.lease.renew()
        except LeaseLostError as error:
            self._outcome.note(trainee.run.key, "held", str(error))
            self._reporter.say(f"{trainee.run.key}: {error}; leaving it alone")
            return False
        if session.rundir.cancelled.exists():
            self._save(trainee)
            session.lease.release()
            self._outcome.note(trainee.run.key, "cancelled", "cancelled while it was training")
            return False
        return True

    def _save(self, trainee: Trainee, keep: bool = False) -> None:
        try:
            self._sessions[trainee.run.key].checkpoint(trainee, keep)
        except (CheckpointError, OSError) as error:
            # The last good checkpoint is still there, and space may come back.
            self._reporter.say(f"{trainee.run.key}: {error}; training goes on")

    def epoch_done(self, trainee: Trainee, record: dict[str, Any]) -> None:
        session = self._sessions[trainee.run.key]
        session.record(record)
        with contextlib.suppress(OSError):
            session.flush()
        if trainee.keeps_checkpoint() and not trainee.finished:
            self._save(trainee, keep=True)
        self._reporter.epoch(trainee, record)

    def finished(self, trainee: Trainee) -> None:
        self._sessions[trainee.run.key].finish(trainee, self._extra)
        diverged = trainee.diverged_at is not None
        self._outcome.note(trainee.run.key, "diverged" if diverged else "done")

    def failed(self, trainee: Trainee, error: Exception) -> None:
        self.failed_run(trainee.run.key, error)

    def failed_run(self, key: str, error: Exception) -> None:
        self._sessions[key].fail(error)
        self._outcome.note(key, "failed", str(error))
        self._reporter.say(f"{key} failed: {error}")


def _check_versions(run: Run) -> None:
    names = [name for name in run.versions if name.startswith("model:")]
    ours: dict[str, int | str] = {n: model_info(n.removeprefix("model:")).version for n in names}
    ours["engine"] = ENGINE_VERSION
    ours["augmentation"] = augmentation_info(run.recipe.augmentation).version
    theirs: dict[str, int | str] = dict(run.versions)
    for method in run.methods:
        ours[method.name] = method_info(method.name).version
        theirs[method.name] = method.version
    for name, version in theirs.items():
        if ours[name] != version:
            raise UserError(
                f"{run.key} was planned with version {version} of {name}, this code has version"
                f" {ours[name]}: its numbers would differ; submit the table again"
            )


def _prepare_process(run: Run) -> None:
    if run.recipe.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{run.key} wants a CUDA device and this machine has none")
    torch.set_num_threads(run.recipe.threads)
    torch.use_deterministic_algorithms(run.recipe.deterministic)


def _open_data(run: Run, where: Surroundings) -> Batches:
    name = run.dataset.name
    require_dataset(name, where.data_dir)
    found = dataset_identity(name, where.data_dir)["digest"]
    if found != run.dataset.digest:
        raise UserError(
            f"the {name} data in {where.data_dir} is not what the run was planned with"
            f" (digest {found[:12]}, planned {run.dataset.digest[:12]}); submit the table again"
        )
    recipe = run.recipe
    offered = augmentation_info(recipe.augmentation).readers
    return open_batches(
        name,
        where.data_dir,
        reader=where.reader or ("resident" if "resident" in offered else "ffcv"),
        seed=run.seed,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        drop_last=recipe.drop_last,
        holdout=recipe.holdout,
        device=recipe.device,
        channels_last=recipe.channels_last,
        workers=max(1, min(recipe.threads, len(os.sched_getaffinity(0)))),
    )


def _evaluate_public(
    run: Run, session: Session, batches: Batches, extra: dict[str, Any], outcome: Outcome
) -> None:
    """Measure a public checkpoint: a result without training."""
    network = load_public(run, batches.num_classes)

    def predict(images: torch.Tensor) -> torch.Tensor:
        return network.network.features(images).logits

    (accuracy,) = evaluate([predict], batches.test(run.recipe.eval_batch))
    history = [Evaluation(0, accuracy.top1, accuracy.top5, accuracy.loss, float("nan"))]
    extra = extra | {"teacher_digest": network.digest}
    session.write_result(summarise(run, history, None, [], session.starts, extra))
    outcome.note(run.key, "done")
