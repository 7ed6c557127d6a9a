"""Train one pack: what every executor runs, here or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from benchmark.base.errors import UserError
from benchmark.data.augmentations import augmentation_info
from benchmark.data.batches import Batches
from benchmark.data.datasets import dataset_identity, require_dataset
from benchmark.data.open import open_batches
from benchmark.methods.catalog import add_plugin, method_info
from benchmark.models import model_info
from benchmark.run.directory import RunDir
from benchmark.run.failure import note_failure
from benchmark.run.identity import ENGINE_VERSION, Run
from benchmark.run.lease import Lease, RunHeldError
from benchmark.run.pack_file import PackFile
from benchmark.run.reading import read
from benchmark.run.state import ENDED, RunState
from benchmark.train.answers import open_answers
from benchmark.train.engine import Engine, Interrupted
from benchmark.train.evaluate import evaluate
from benchmark.train.history import Evaluation
from benchmark.train.memory import keep_freed_memory
from benchmark.train.network import Network
from benchmark.train.own_teacher import check_above_guessing
from benchmark.train.report import PackReporter
from benchmark.train.session import Session
from benchmark.train.teacher import LoadedTeacher, load_public, load_teacher
from benchmark.train.trainee import Trainee, World
from benchmark.train.verify import check_teacher
from benchmark.train.watcher import Outcome, Surroundings, Watcher

__all__ = ["Outcome", "Surroundings", "train_pack"]


def train_pack(pack: PackFile, where: Surroundings) -> Outcome:
    """Train all runs of a pack that need it, and return how each of them ended.

    Runs that have a result, are cancelled or are held by another process are left alone. Raises
    UserError if this code would train other numbers than those that were planned.
    """
    for path in pack.plugins:
        add_plugin(path)
    for run in pack.runs:
        check_versions(run)
    outcome = Outcome()
    sessions: dict[str, Session] = {}
    reporter = where.reporter()
    try:
        for run in pack.runs:
            session = _open(run, pack, outcome, reporter)
            if session is not None:
                sessions[run.key] = session
        mine = [run for run in pack.runs if run.key in sessions]
        if mine:
            _train(pack, mine, sessions, where, outcome, reporter)
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


def _open(run: Run, pack: PackFile, outcome: Outcome, reporter: PackReporter) -> Session | None:
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
        return _take(rundir, outcome)
    except RunHeldError as error:
        outcome.note(run.key, RunState.HELD, str(error))
        reporter.say(str(error))
    except (UserError, OSError) as error:
        if read(rundir).state is not RunState.DAMAGED:  # else it may be another run's
            note_failure(rundir, error)
        outcome.note(run.key, RunState.FAILED, str(error))
        reporter.say(f"{run.key} cannot be trained: {error}")
    return None


def _take(rundir: RunDir, outcome: Outcome) -> Session | None:
    lease = Lease.acquire(rundir)
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
) -> None:
    first = runs[0]
    _prepare_process(first)
    batches = _open_data(first, pack)
    extra: dict[str, Any] = {"dataset_digest": first.dataset.digest}
    watcher = Watcher(sessions, where, outcome, reporter, extra)
    try:
        if first.weights is not None:
            for run in runs:
                _evaluate_public(run, batches, pack, watcher)
            return
        fresh = not any(sessions[run.key].rundir.checkpoint.exists() for run in runs)
        teacher = _teacher(first, batches, pack, watcher, fresh)
        network = teacher.network if teacher else None
        if teacher is not None:
            extra["teacher_digest"] = teacher.digest
            if first.teacher is not None and first.teacher.reads is not None:
                extra |= _measure_own(first, teacher, batches, watcher, reporter)
        trainees = _trainees(runs, batches, network, sessions, watcher)
        if network is not None and any(trainee.needs_teacher for trainee in trainees):
            network.fold(batches.image_shape)
        if trainees:
            reporter.started(pack.label, trainees)
        for trainee in trainees:
            if trainee.finished:  # killed between its last checkpoint and its result
                watcher.end(trainee)
        answers = None
        if teacher is not None and any(trainee.needs_teacher for trainee in trainees):
            answers = open_answers(first, teacher, batches, pack.runs_dir, reporter.say)
        Engine(trainees, batches, network, watcher, answers).train()
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
) -> list[Trainee]:
    """Build what is trained, each where its checkpoint left it; one that cannot be is left out."""
    world = World(batches.image_shape, batches.num_classes, batches.labels, batches.steps_per_epoch)
    for run in runs:
        if not watcher.holds(run.key):  # reading data and teacher may have taken minutes
            continue
        try:
            trainee = Trainee(run, world, teacher)
            sessions[run.key].resume(trainee)
        except Exception as error:
            watcher.fail(run.key, error)
            continue
        watcher.add(trainee)
    return list(watcher.trainees)


def check_versions(run: Run) -> None:
    """Raise UserError if this code's numbers are not those that a run was planned with."""
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
    if run.recipe.replicas > 1:
        raise UserError("recipe.replicas cannot be trained yet")
    torch.set_num_threads(run.recipe.threads)
    if run.recipe.device == "cpu":
        keep_freed_memory()
    torch.use_deterministic_algorithms(run.recipe.deterministic)


def _open_data(run: Run, pack: PackFile) -> Batches:
    name = run.dataset.name
    require_dataset(name, pack.data_dir)
    found = dataset_identity(name, pack.data_dir)["digest"]
    if found != run.dataset.digest:
        raise UserError(
            f"the {name} data in {pack.data_dir} is not what the run was planned with"
            f" (digest {found[:12]}, planned {run.dataset.digest[:12]}); submit the table again"
        )
    recipe = run.recipe
    offered = augmentation_info(recipe.augmentation).readers
    return open_batches(
        name,
        pack.data_dir,
        reader=pack.reader or ("resident" if "resident" in offered else "ffcv"),
        seed=run.seed,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        drop_last=recipe.drop_last,
        holdout=recipe.holdout,
        repeats=recipe.repeats,
        crop_size=recipe.crop_size,
        test_interpolation=recipe.test_interpolation,
        mix=recipe.mix,
        label_smoothing=recipe.label_smoothing,
        device=recipe.device,
        channels_last=recipe.channels_last,
        workers=max(1, min(recipe.threads, len(os.sched_getaffinity(0)))),
    )


def _evaluate_public(run: Run, batches: Batches, pack: PackFile, watcher: Watcher) -> None:
    """Measure a public checkpoint: a result without training."""
    classes = require_dataset(run.dataset.name, pack.data_dir).classes
    network = load_public(run, batches.num_classes, classes, pack.files)

    def predict(images: torch.Tensor) -> torch.Tensor:
        return network.network.features(images).logits

    def tick() -> None:
        watcher.look_for_stop()
        if not watcher.holds(run.key):
            raise Interrupted("another process took the run")

    (accuracy,) = evaluate([predict], batches.test(run.recipe.eval_batch), tick)
    history = [Evaluation(0, accuracy.top1, accuracy.top5, accuracy.loss, float("nan"))]
    extra: dict[str, Any] = {"teacher_digest": network.digest}
    if run.reads is not None:  # where to find it again, and what it was asked for
        extra["weights_file"] = pack.files[network.digest].model_dump_json()
        extra["classes"] = classes
    watcher.measured(run, history, extra)
