"""Train one pack: what every executor runs, here or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmark.base.errors import UserError
from benchmark.data.batches import Batches
from benchmark.data.datasets import require_dataset
from benchmark.methods.catalog import add_plugin
from benchmark.run.directory import RunDir
from benchmark.run.failure import note_failure
from benchmark.run.identity import Run
from benchmark.run.lease import Lease, RunHeldError
from benchmark.run.pack_file import PackFile
from benchmark.run.reading import read
from benchmark.run.state import ENDED, RunState
from benchmark.train.answers import open_answers
from benchmark.train.crew import ALONE, Crew, Interrupted, PeerLostError
from benchmark.train.engine import Engine
from benchmark.train.evaluate import evaluate
from benchmark.train.follow import follow_pack, measure_public
from benchmark.train.history import Evaluation
from benchmark.train.network import Network
from benchmark.train.own_teacher import check_above_guessing
from benchmark.train.probing import Probes
from benchmark.train.report import PackReporter
from benchmark.train.session import Session
from benchmark.train.start import (
    cannot_start,
    check_processes,
    check_versions,
    open_data,
    prepare_process,
)
from benchmark.train.teacher import LoadedTeacher, load_teacher
from benchmark.train.trainee import Trainee, World
from benchmark.train.verify import check_teacher
from benchmark.train.watcher import Outcome, Surroundings, Watcher

__all__ = ["Outcome", "Surroundings", "train_pack"]


def train_pack(pack: PackFile, where: Surroundings, crew: Crew = ALONE) -> Outcome:
    """Train all runs of a pack that need it, and return how each of them ended.

    Runs that have a result, are cancelled or are held by another process are left alone. Of a
    ``crew`` the first process decides and writes, the others compute. Raises UserError if this
    code would train other numbers than those that were planned, and for more processes than
    replicas.
    """
    for path in pack.plugins:
        add_plugin(path)
    for run in pack.runs:
        check_versions(run)
        check_processes(run, crew.processes)
    if crew.process > 0:
        return follow_pack(pack, where, crew)
    crew.use(pack.runs[0].recipe.device)
    outcome = Outcome()
    sessions: dict[str, Session] = {}
    reporter = where.reporter()
    try:
        for run in pack.runs:
            session = _open(run, pack, where, outcome, reporter)
            if session is not None:
                sessions[run.key] = session
        mine = [run for run in pack.runs if run.key in sessions]
        crew.begin(crew.told([run.key for run in mine]))
        if mine:
            _train(pack, mine, sessions, where, outcome, reporter, crew)
    except Exception as error:
        for key, session in sessions.items():
            if key not in outcome.endings:
                session.fail(error)
                outcome.note(key, RunState.FAILED, str(error) or type(error).__name__)
                reporter.say(f"{key} failed: {outcome.reasons[key]}")
        if not isinstance(error, UserError | OSError):
            raise
    finally:
        for session in sessions.values():
            session.lease.release()
        reporter.close()
    return outcome


def _open(
    run: Run, pack: PackFile, where: Surroundings, outcome: Outcome, reporter: PackReporter
) -> Session | None:
    """Take a run, or note why it is left alone. One run's directory is not its neighbours'."""
    rundir = RunDir(pack.runs_dir, run.key)
    try:
        rundir.create(run)
        if _has_ended(rundir, outcome):
            return None
        if rundir.cancelled.exists():
            outcome.note(run.key, RunState.CANCELLED, "the run is cancelled")
            reporter.say(f"{run.key} is cancelled; leaving it alone")
            return None
        return _take(rundir, where, outcome)
    except RunHeldError as error:
        outcome.note(run.key, RunState.HELD, str(error))
        reporter.say(str(error))
    except (UserError, OSError) as error:
        if read(rundir).state is not RunState.DAMAGED:  # else it may be another run's
            note_failure(rundir, error)
        outcome.note(run.key, RunState.FAILED, str(error))
        reporter.say(f"{run.key} cannot be trained: {error}")
    return None


def _take(rundir: RunDir, where: Surroundings, outcome: Outcome) -> Session | None:
    lease = Lease.acquire(rundir, where.ended)
    try:
        if _has_ended(rundir, outcome):  # by another process in between
            lease.release()
            return None
        return Session(rundir, lease)
    except BaseException:
        lease.release()
        raise


def _has_ended(rundir: RunDir, outcome: Outcome) -> bool:
    """Tell, and note, whether a run has its result; UserError if it is damaged."""
    found = read(rundir)
    if found.state is RunState.DAMAGED:
        raise UserError(found.reason)
    if found.state not in ENDED:
        return False
    outcome.note(rundir.key, found.state)
    return True


def _train(
    pack: PackFile,
    runs: Sequence[Run],
    sessions: dict[str, Session],
    where: Surroundings,
    outcome: Outcome,
    reporter: PackReporter,
    crew: Crew,
) -> None:
    first = runs[0]
    prepare_process(first)
    batches = open_data(first, pack, crew.share(first.recipe.replicas))
    extra: dict[str, Any] = {"dataset_digest": first.dataset.digest}
    for session in sessions.values():
        session.classes = require_dataset(first.dataset.name, pack.data_dir).classes
    watcher = Watcher(sessions, where, outcome, reporter, extra)
    try:
        if first.weights is not None:
            for run in runs:
                _evaluate_public(run, batches, pack, watcher, crew)
            return
        fresh = not any(sessions[run.key].rundir.checkpoint.exists() for run in runs)
        teacher = _teacher(first, batches, pack, watcher, fresh)
        network = teacher.network if teacher else None
        if teacher is not None:
            extra["teacher_digest"] = teacher.digest
            if first.teacher is not None and first.teacher.reads is not None:
                extra |= _measure_own(first, teacher, batches, watcher, reporter)
        trainees = _trainees(runs, batches, network, sessions, watcher, crew)
        if network is not None and any(trainee.needs_teacher for trainee in trainees):
            network.fold(batches.image_shape)
        if trainees:
            reporter.started(pack.label, trainees)
        for trainee in trainees:
            if trainee.finished:  # killed between its last checkpoint and its result
                watcher.end(trainee)
        if any(run.recipe.probes for run in runs):
            watcher.probes = Probes(batches, network, reporter.say)
        answers = None
        if teacher is not None and any(trainee.needs_teacher for trainee in trainees):
            answers = open_answers(first, teacher, batches, pack.runs_dir, reporter.say)
        Engine(trainees, batches, network, watcher, answers, crew).train()
    except PeerLostError as loss:
        outcome.lost = str(loss)
        # On a GPU the last step may wait for ever for what the other process had to give.
        watcher.interrupted(str(loss), save=first.recipe.device == "cpu")
    except Interrupted as stop:
        watcher.interrupted(str(stop))


def _teacher(
    run: Run, batches: Batches, pack: PackFile, watcher: Watcher, fresh: bool
) -> LoadedTeacher | None:
    """Load the pack's teacher; a public one is measured before anything is trained by it."""
    if run.teacher is None:
        return None
    if fresh and run.teacher.source == "registry":
        check_teacher(run, pack.data_dir, watcher.look_for_stop)
    classes = require_dataset(run.dataset.name, pack.data_dir).classes
    return load_teacher(run, batches.num_classes, pack.runs_dir, classes, pack.files)


def _measure_own(
    run: Run, teacher: LoadedTeacher, batches: Batches, watcher: Watcher, reporter: PackReporter
) -> dict[str, Any]:
    """Measure a teacher of the user's own before it teaches, on the images that students see."""
    assert run.teacher is not None

    def predict(images: torch.Tensor) -> torch.Tensor:
        return teacher.network.features(images).logits

    tests = batches.test(run.recipe.eval_batch)
    (found,) = evaluate([predict], tests, watcher.look_for_stop)
    reporter.say(f"your own teacher {run.teacher.model} has {found.top1:.2f} % on the test images")
    check_above_guessing(run.teacher.model, found.top1, batches.num_classes)
    return {"teacher_top1": found.top1}


def _trainees(
    runs: Sequence[Run],
    batches: Batches,
    teacher: Network | None,
    sessions: dict[str, Session],
    watcher: Watcher,
    crew: Crew,
) -> list[Trainee]:
    """Build what is trained, each where its checkpoint left it; one that cannot be is left out."""
    world = World(batches.image_shape, batches.num_classes, batches.labels, batches.steps_per_epoch)
    built: dict[str, Trainee | Exception] = {}
    for run in runs:
        if not watcher.holds(run.key):  # reading data and teacher may have taken minutes
            continue
        try:
            trainee = Trainee(run, world, teacher, crew)
            sessions[run.key].resume(trainee)
            built[run.key] = trainee
        except Exception as error:
            built[run.key] = error
    problems = cannot_start(crew, built)
    for key, found in built.items():
        if isinstance(found, Exception):
            watcher.fail(key, found)
        elif key in problems:
            watcher.fail(key, UserError(problems[key]))
        else:
            watcher.add(found)
    return list(watcher.trainees)


def _evaluate_public(
    run: Run, batches: Batches, pack: PackFile, watcher: Watcher, crew: Crew
) -> None:
    """Measure a public checkpoint: a result without training."""

    def act() -> tuple[str, ...]:
        watcher.look_for_stop()
        if not watcher.holds(run.key):
            raise Interrupted("another process took the run")
        return ()

    accuracy, digest = measure_public(run, batches, pack, act, crew)
    history = [Evaluation(0, accuracy.top1, accuracy.top5, accuracy.loss, float("nan"))]
    extra: dict[str, Any] = {"teacher_digest": digest}
    if run.reads is not None:  # where to find it again, and what it was asked for
        extra["weights_file"] = pack.files[digest].model_dump_json()
        extra["classes"] = require_dataset(run.dataset.name, pack.data_dir).classes
    watcher.measured(run, history, extra)
