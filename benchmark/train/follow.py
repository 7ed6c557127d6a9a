"""What the other processes of a pack do: the same steps as the first one, and nothing on disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor

from benchmark.base.log import say
from benchmark.data.batches import Batches
from benchmark.data.datasets import require_dataset
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile
from benchmark.train import state
from benchmark.train.answers import open_answers
from benchmark.train.crew import Crew, Interrupted, PeerLostError
from benchmark.train.engine import Engine
from benchmark.train.evaluate import Accuracy, evaluate
from benchmark.train.network import Network
from benchmark.train.start import cannot_start, open_data, prepare_process
from benchmark.train.teacher import load_public, load_teacher
from benchmark.train.trainee import Trainee, World
from benchmark.train.watcher import Outcome, Surroundings


class Follower:
    """Listens to the loop in a process that writes nothing (an engine Listener)."""

    def __init__(self, stop: Callable[[], str | None]) -> None:
        self._stop = stop

    def look(self) -> tuple[str, ...]:
        """Raise Interrupted if this process is asked to stop."""
        reason = self._stop()
        if reason is not None:
            raise Interrupted(reason)
        return ()

    def tick(self, trainees: Sequence[Trainee]) -> Sequence[Trainee]:
        """Stop if this process is asked to; whom to let go of the first process says."""
        self.look()
        return ()

    def epoch_done(self, trainee: Trainee, record: dict[str, Any]) -> None:
        """The first process writes it."""

    def finished(self, trainee: Trainee) -> None:
        """The first process writes it."""

    def failed(self, trainee: Trainee, error: Exception) -> None:
        """The first process was told."""


def follow_pack(pack: PackFile, where: Surroundings, crew: Crew) -> Outcome:
    """Train with the first process those runs that it has taken; returns nothing of its own."""
    try:
        crew.use(pack.runs[0].recipe.device)
        keys = crew.told([])
        crew.begin(keys)
        runs = [run for run in pack.runs if run.key in keys]
        if runs:
            _follow(runs, pack, Follower(where.stop), crew)
    except PeerLostError as loss:
        say(f"process {crew.process}: {loss}")
    except Interrupted:
        pass  # the first process says so, and saves
    return Outcome()


def _follow(runs: Sequence[Run], pack: PackFile, listener: Follower, crew: Crew) -> None:
    first = runs[0]
    prepare_process(first)
    batches = open_data(first, pack, crew.share(first.recipe.replicas))
    if first.weights is not None:
        for run in runs:
            measure_public(run, batches, pack, listener.look, crew)
        return
    teacher = None
    if first.teacher is not None:
        classes = require_dataset(first.dataset.name, pack.data_dir).classes
        teacher = load_teacher(first, batches.num_classes, pack.runs_dir, classes, pack.files)
    network = teacher.network if teacher else None
    trainees = _built(runs, batches, network, pack, crew)
    answers = None
    if teacher is not None and any(trainee.needs_teacher for trainee in trainees):
        teacher.network.fold(batches.image_shape)
        answers = open_answers(first, teacher, batches, pack.runs_dir, lambda _: None)
    Engine(trainees, batches, network, listener, answers, crew).train()


def _built(
    runs: Sequence[Run], batches: Batches, teacher: Network | None, pack: PackFile, crew: Crew
) -> list[Trainee]:
    world = World(batches.image_shape, batches.num_classes, batches.labels, batches.steps_per_epoch)
    built: dict[str, Trainee | Exception] = {}
    for run in runs:
        try:
            trainee = Trainee(run, world, teacher, crew)
            saved = state.load(RunDir(pack.runs_dir, run.key))
            if saved is not None:
                trainee.load_state(saved)
            built[run.key] = trainee
        except Exception as error:  # the first process notes it
            built[run.key] = error
    problems = cannot_start(crew, built)
    return [t for key, t in built.items() if isinstance(t, Trainee) and key not in problems]


def measure_public(
    run: Run,
    batches: Batches,
    pack: PackFile,
    act: Callable[[], Collection[str]],
    crew: Crew,
) -> tuple[Accuracy, str]:
    """Return the accuracy of a public checkpoint, and the digest of its file."""
    classes = require_dataset(run.dataset.name, pack.data_dir).classes
    network = load_public(run, batches.num_classes, classes, pack.files)
    tests = batches.test(run.recipe.eval_batch, crew.share(run.recipe.replicas))

    def predict(images: Tensor) -> Tensor:
        return network.network.features(images).logits

    def tick() -> None:
        crew.between(act)

    (accuracy,) = evaluate([predict], tests, tick, crew)
    return accuracy, network.digest
