"""The only training loop: a pack of runs over one stream of images and one teacher.

Runs of a pack may stand at different positions (one was killed earlier, one starts with a
first stage): the loop begins at the earliest and each run joins when its position is reached,
so the numbers of a run do not depend on its neighbours.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from benchmark.data.batches import Batch, Batches
from benchmark.models.features import Features
from benchmark.train.answers import Answers
from benchmark.train.evaluate import Accuracy, evaluate
from benchmark.train.memory import peak_memory_mb
from benchmark.train.network import Network, resized
from benchmark.train.trainee import Trainee


class Interrupted(Exception):  # noqa: N818 - a request to stop is no error
    """Somebody asked the pack to stop; its state is to be saved and continued later."""


class Listener(Protocol):
    """What the loop tells the outside. Nothing said here can change a number."""

    def tick(self, trainees: Sequence[Trainee]) -> Sequence[Trainee]:
        """After every step and every batch of an evaluation; returns runs to let go of.

        Raises Interrupted to stop all of them.
        """

    def epoch_done(self, trainee: Trainee, record: dict[str, Any]) -> None:
        """After a run closed an epoch."""

    def finished(self, trainee: Trainee) -> None:
        """After a run's last epoch, or when it diverged."""

    def failed(self, trainee: Trainee, error: Exception) -> None:
        """After a run raised an error; the others go on without it."""


@dataclass
class Timing:
    """Where an epoch's seconds went, for the whole pack.

    ``teacher``: in the shared teacher's pass; ``steps``: in each run's steps, by its id. On a GPU
    only what it took to launch them, since nothing waits for the device in between.
    """

    seconds: float = 0.0
    data_wait: float = 0.0
    teacher: float = 0.0
    images: int = 0
    steps: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def student(self, trainee: Trainee, packed: int) -> float:
        """Return one run's part but for the teacher's pass: its steps, and a share of the rest."""
        rest = self.seconds - self.teacher - sum(self.steps.values())
        return self.steps[id(trainee)] + rest / packed


class Engine:
    """Trains a pack."""

    def __init__(
        self,
        trainees: Sequence[Trainee],
        batches: Batches,
        teacher: Network | None,
        listener: Listener,
        answers: Answers | None = None,
    ) -> None:
        self.active = [trainee for trainee in trainees if not trainee.finished]
        self.batches = batches
        self.teacher = teacher
        self._answers = Answers(teacher) if answers is None and teacher is not None else answers
        self.listener = listener
        if teacher is not None:
            teacher.model.eval()

    def train(self) -> None:
        """Train every run to its end. Raises Interrupted when the listener asks to stop."""
        while self.active:
            self._train_epoch(min(trainee.epoch for trainee in self.active))

    def _train_epoch(self, epoch: int) -> None:
        timing = Timing()
        start = min(t.step for t in self.active if t.epoch == epoch)
        began = time.perf_counter()
        for number, batch in self._timed(epoch, start, timing):
            joined = [t for t in self.active if t.position == (epoch, number)]
            if joined:
                self._step(joined, batch, timing)
                timing.images += len(batch.labels)
            self._tick()
        closing = [t for t in self.active if t.epoch == epoch]
        self._close(closing, timing, began)

    def _timed(self, epoch: int, start: int, timing: Timing) -> Iterator[tuple[int, Batch]]:
        if start >= self.batches.steps_per_epoch:
            return
        source = self.batches.epoch(epoch, start)
        number = start
        while True:
            asked = time.perf_counter()
            batch = next(source, None)
            timing.data_wait += time.perf_counter() - asked
            if batch is None:
                return
            yield number, batch
            number += 1

    def _step(self, trainees: list[Trainee], batch: Batch, timing: Timing) -> None:
        features: Features | None = None
        if self._answers is not None and any(t.needs_teacher for t in trainees):
            began = time.perf_counter()
            maps = {name for t in trainees for name in t.teacher_maps}
            features = self._answers.features(batch, maps)
            timing.teacher += time.perf_counter() - began
        # Once for each form of students, not once for each student.
        seen = {}
        for student in {t.student.form: t.student for t in trainees}.values():
            own = batch._replace(images=student.layout(batch.images))
            seen[student.form] = (own, None if features is None else student.reads(features))
        for trainee in trainees:
            own, taught = seen[trainee.student.form]
            if trainee.private_teacher is not None:
                own = batch  # each of its networks reads the images at its own size
            step = partial(Trainee.train_step, batch=own, teacher=taught)
            began = time.perf_counter()
            self._guarded(trainee, step)
            timing.steps[id(trainee)] += time.perf_counter() - began
            if trainee.diverged_at is not None:
                self._leave(trainee, {})

    def _close(self, trainees: list[Trainee], timing: Timing, began: float) -> None:
        due = [t for t in trainees if t.evaluates()]
        tests, validations, averages = self._evaluate(due)
        timing.seconds = time.perf_counter() - began
        extra = {
            "seconds": round(timing.seconds, 4),
            "data_wait": round(timing.data_wait, 4),
            "teacher_seconds": round(timing.teacher, 4),
            "images_per_second": round(timing.images / max(timing.seconds, 1e-9), 1),
            "packed": len(trainees),
            "peak_memory_mb": round(peak_memory_mb()),
        }
        for trainee in trainees:
            test, validation = tests.get(id(trainee)), validations.get(id(trainee))
            if trainee in self.active:
                record = trainee.end_epoch(test, validation, averages.get(id(trainee)))
                own = {"student_seconds": round(timing.student(trainee, len(trainees)), 4)}
                self.listener.epoch_done(trainee, record | extra | own)
                if trainee.finished:
                    self._leave(trainee, None)

    def _tick(self) -> None:
        dropped = [id(trainee) for trainee in self.listener.tick(self.active)]
        if dropped:
            self.active = [t for t in self.active if id(t) not in dropped]

    def _evaluate(
        self, trainees: list[Trainee]
    ) -> tuple[dict[int, Accuracy], dict[int, Accuracy], dict[int, Accuracy]]:
        """Return accuracies by a run's id: on the test set, held out, and of averaged weights."""
        if not trainees:
            return {}, {}, {}
        for trainee in trainees:
            trainee.eval()
        size = trainees[0].recipe.eval_batch
        averaged = [trainee for trainee in trainees if trainee.average is not None]
        tests, averages = self._accuracies(trainees, averaged, self.batches.test(size))
        validations, _ = self._accuracies(trainees, [], self.batches.validation(size))
        return tests, validations, averages

    def _accuracies(
        self, trainees: list[Trainee], averaged: list[Trainee], batches: Iterator[Batch]
    ) -> tuple[dict[int, Accuracy], dict[int, Accuracy]]:
        size = trainees[0].recipe.input_size  # once for all students, which share it
        seen = (b._replace(images=resized(b.images, size)) for b in batches)
        predictors = [trainee.predict for trainee in trainees]
        predictors += [trainee.predict_average for trainee in averaged]
        found = evaluate(predictors, seen, self._tick)
        plain, average = found[: len(trainees)], found[len(trainees) :]
        return (
            {id(t): a for t, a in zip(trainees, plain, strict=False)},
            {id(t): a for t, a in zip(averaged, average, strict=False)},
        )

    def _leave(self, trainee: Trainee, record: dict[str, Any] | None) -> None:
        """Take a run out of the pack: it is done, or it diverged in the middle of an epoch."""
        if record is not None:
            record = trainee.end_epoch(None, None)
            self.listener.epoch_done(trainee, record)
        self.active = [t for t in self.active if t is not trainee]
        self._guarded(trainee, self.listener.finished)

    def _guarded(self, trainee: Trainee, action: Callable[[Trainee], None]) -> None:
        # One run's error (a decomposition that does not converge, say) is not its neighbours'.
        try:
            action(trainee)
        except (Interrupted, MemoryError):
            raise
        except Exception as error:
            self.active = [t for t in self.active if t is not trainee]
            self.listener.failed(trainee, error)
