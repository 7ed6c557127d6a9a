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

import torch
from torch import Tensor

from benchmark.base.companion import Companion
from benchmark.data.batches import Batch, Batches, cut, size_of
from benchmark.models.features import Features
from benchmark.train.answers import Answers
from benchmark.train.crew import ALONE, Crew, Interrupted, PeerFailedError, fingerprint
from benchmark.train.evaluate import Accuracy, Outputs, evaluate_outputs, single
from benchmark.train.history import Evaluated
from benchmark.train.memory import peak_memory_mb
from benchmark.train.network import Form, Network, resized
from benchmark.train.steps import Given
from benchmark.train.trainee import Trainee

__all__ = ["Engine", "Interrupted", "Listener", "Timing"]


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

    ``teacher``: in the shared teacher's pass; ``steps``: in each run's steps, by its key. On a GPU
    only what it took to launch them, since nothing waits for the device in between.
    """

    seconds: float = 0.0
    data_wait: float = 0.0
    teacher: float = 0.0
    images: int = 0
    steps: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def student(self, trainee: Trainee, packed: int) -> float:
        """Return one run's part but for the teacher's pass: its steps, and a share of the rest."""
        rest = self.seconds - self.teacher - sum(self.steps.values())
        return self.steps[trainee.run.key] + rest / packed


class Engine:
    """Trains a pack."""

    def __init__(
        self,
        trainees: Sequence[Trainee],
        batches: Batches,
        teacher: Network | None,
        listener: Listener,
        answers: Answers | None = None,
        crew: Crew = ALONE,
    ) -> None:
        self.active = [trainee for trainee in trainees if not trainee.finished]
        self.batches = batches
        self.teacher = teacher
        self._answers = Answers(teacher) if answers is None and teacher is not None else answers
        self.listener = listener
        self.crew = crew
        if teacher is not None:
            teacher.model.eval()

    def train(self) -> None:
        """Train every run to its end. Raises Interrupted when the listener asks to stop."""
        while self.active:
            self._train_epoch(min(trainee.epoch for trainee in self.active))

    def _train_epoch(self, epoch: int) -> None:
        timing = Timing()
        began = time.perf_counter()
        for number, batch in self._timed(epoch, timing):
            joined = [t for t in self.active if t.position == (epoch, number)]
            if joined:
                self._step(joined, batch, timing)
                timing.images += joined[0].recipe.batch_size if batch is None else size_of(batch)
            self._tick()
        closing = [t for t in self.active if t.epoch == epoch]
        self._close(closing, timing, began)

    def _timed(self, epoch: int, timing: Timing) -> Iterator[tuple[int, Batch | None]]:
        """Yield the epoch's steps, with their batches where anybody looks at them."""
        joining = [t for t in self.active if t.epoch == epoch]
        start = min(t.step for t in joining)
        end = max(t.steps_per_epoch for t in joining)
        source: Iterator[Batch] = iter(())
        if start < end and any(t.uses_images for t in joining):
            source = self.batches.epoch(epoch, start)
        for number in range(start, end):
            asked = time.perf_counter()
            batch = next(source, None)
            timing.data_wait += time.perf_counter() - asked
            yield number, batch

    def _step(self, trainees: list[Trainee], batch: Batch | None, timing: Timing) -> None:
        looking = [t for t in trainees if t.uses_images]
        if batch is not None and looking:
            self._step_on(looking, batch, timing)
        for trainee in trainees:
            if not trainee.uses_images:
                self._take(trainee, timing, Trainee.train_step, batch=None, teacher=None)

    def _step_on(self, trainees: list[Trainee], batch: Batch, timing: Timing) -> None:
        further = self._companions(trainees, timing)
        share = self.crew.share(trainees[0].recipe.replicas)
        parts = cut(batch, share)
        beside = [dict[Companion, Batch]() for _ in parts]
        for which, found in further.items():
            for own, part in zip(beside, cut(found, share), strict=True):
                own[which] = part
        shown = [self._shown(trainees, *pair, timing) for pair in zip(parts, beside, strict=True)]
        for trainee in trainees:
            given = [
                self._given(trainee, part, forms[trainee.student.form], size_of(batch))
                for part, forms in zip(parts, shown, strict=True)
            ]
            if trainee.replicas is not None:
                self._take(trainee, timing, Trainee.train_parts, parts=given)
                continue
            (only,) = given
            seen = {"batch": only.batch, "teacher": only.teacher, "further": only.further}
            self._take(trainee, timing, Trainee.train_step, **seen)

    def _shown(
        self,
        trainees: list[Trainee],
        batch: Batch,
        further: dict[Companion, Batch],
        timing: Timing,
    ) -> dict[Form, tuple[Batch, Features | None, dict[Companion, Batch] | None]]:
        """Return what students of each form see: once for each form, not for each student."""
        features: Features | None = None
        if self._answers is not None and any(t.needs_teacher for t in trainees):
            began = time.perf_counter()
            maps = {name for t in trainees for name in t.teacher_maps}
            features = self._answers.features(batch, maps)
            timing.teacher += time.perf_counter() - began
        seen = {}
        for student in {t.student.form: t.student for t in trainees}.values():
            own = batch._replace(images=student.layout(batch.images))
            beside = {
                which: found._replace(images=student.layout(found.images))
                for which, found in further.items()
            }
            taught = None if features is None else student.reads(features)
            seen[student.form] = (own, taught, beside or None)
        return seen

    @staticmethod
    def _given(
        trainee: Trainee,
        batch: Batch,
        seen: tuple[Batch, Features | None, dict[Companion, Batch] | None],
        whole: int,
    ) -> Given:
        own, taught, beside = seen
        if trainee.private_teacher is not None:
            own = batch  # each of its networks reads the images at its own size
        size = len(batch.labels)
        return Given(own, taught, beside, size, size / whole)

    def _take(
        self, trainee: Trainee, timing: Timing, step: Callable[..., None], **given: Any
    ) -> None:
        if trainee.run.key in self.crew.failed:
            return  # in another process; the next tick lets it go
        began = time.perf_counter()
        self._guarded(trainee, partial(step, **given), shared=True)
        timing.steps[trainee.run.key] += time.perf_counter() - began
        if trainee.diverged_at is not None:
            # In the middle of an epoch, which ends here for it.
            self.listener.epoch_done(trainee, trainee.end_epoch())
            self._leave(trainee)

    def _companions(self, trainees: list[Trainee], timing: Timing) -> dict[Companion, Batch]:
        """Read the further images of a step that any of these runs asks for."""
        wanted = sorted({which for t in trainees for which in t.companions})
        if not wanted:
            return {}
        asked = time.perf_counter()
        epoch, number = trainees[0].position
        found = {which: self.batches.companion(which, epoch, number) for which in wanted}
        timing.data_wait += time.perf_counter() - asked
        return found

    def _close(self, trainees: list[Trainee], timing: Timing, began: float) -> None:
        self._compare(trainees)
        evaluated, averages = self._evaluate([t for t in trainees if t.evaluates()])
        held_out = self._held_out([t for t in trainees if t.wants_held_out and t.epoch >= 1])
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
            key = trainee.run.key
            if trainee in self.active:
                record = trainee.end_epoch(evaluated.get(key), held_out.get(key), averages.get(key))
                own = {"student_seconds": round(timing.student(trainee, len(trainees)), 4)}
                self.listener.epoch_done(trainee, record | extra | own)
                if trainee.finished:
                    self._leave(trainee)

    def _tick(self) -> None:
        dropped = self.crew.between(
            lambda: {trainee.run.key for trainee in self.listener.tick(self.active)}
        )
        for trainee in [t for t in self.active if t.run.key in self.crew.failed]:
            reason = self.crew.failed[trainee.run.key]
            self.active = [t for t in self.active if t is not trainee]
            self.listener.failed(trainee, PeerFailedError(reason))
        if dropped:
            self.active = [t for t in self.active if t.run.key not in dropped]

    def _compare(self, trainees: list[Trainee]) -> None:
        """Give all processes the first one's statistics, and check that they trained alike.

        Raises RuntimeError where weights differ, as on machines that compute differently.
        """
        if self.crew.processes == 1:
            return
        self.crew.first([buffer for t in trainees for buffer in t.buffers])
        found = self.crew.gathered(torch.tensor([fingerprint(t.parameters) for t in trainees]))
        for process, other in enumerate(found):
            if not torch.equal(other, found[0]):
                raise RuntimeError(
                    f"processes 0 and {process} hold other weights after the same steps: their"
                    " machines compute differently"
                )

    def _evaluate(
        self, trainees: list[Trainee]
    ) -> tuple[dict[str, dict[str, Evaluated]], dict[str, Accuracy]]:
        """Return by run its outputs on test and held-out images, and its averaged weights'."""
        if not trainees:
            return {}, {}
        for trainee in trainees:
            trainee.eval()
        size = trainees[0].recipe.eval_batch
        averaged = [trainee for trainee in trainees if trainee.average is not None]
        share = self.crew.share(trainees[0].recipe.replicas)
        tests, averages = self._accuracies(trainees, averaged, self.batches.test(size, share))
        held_out = self.batches.validation(size, share)
        validations, _ = self._accuracies(trainees, [], held_out)
        evaluated = {
            key: {
                name: Evaluated(test, validations.get(key, {}).get(name))
                for name, test in outputs.items()
            }
            for key, outputs in tests.items()
        }
        return evaluated, averages

    def _accuracies(
        self, trainees: list[Trainee], averaged: list[Trainee], batches: Iterator[Batch]
    ) -> tuple[dict[str, dict[str, Accuracy]], dict[str, Accuracy]]:
        seen = _at_size(trainees[0], batches)  # once for all students, which share it
        predictors: list[Outputs] = [trainee.outputs for trainee in trainees]
        predictors += [single(trainee.predict_average) for trainee in averaged]
        found = evaluate_outputs(predictors, seen, self._tick, self.crew)
        plain, average = found[: len(trainees)], found[len(trainees) :]
        return (
            {t.run.key: outputs for t, outputs in zip(trainees, plain, strict=False)},
            {t.run.key: one[""] for t, one in zip(averaged, average, strict=False)},
        )

    def _held_out(self, trainees: list[Trainee]) -> dict[str, dict[str, Tensor]]:
        """Return by run the logits of its outputs on all held-out images, and their labels."""
        found: dict[str, dict[str, Tensor]] = {}
        for trainee in trainees:
            trainee.eval()
            parts: defaultdict[str, list[Tensor]] = defaultdict(list)
            batches = self.batches.validation(trainee.recipe.eval_batch)
            for batch in _at_size(trainee, batches):
                with torch.no_grad():
                    logits = trainee.outputs(batch.images)
                for name, value in (*logits.items(), ("labels", batch.labels)):
                    parts[name].append(value)
                self._tick()
            found[trainee.run.key] = {name: torch.cat(part) for name, part in parts.items()}
        return found

    def _leave(self, trainee: Trainee) -> None:
        """Take a run out of the pack: it is done, or it diverged."""
        self.active = [t for t in self.active if t is not trainee]
        self._guarded(trainee, self.listener.finished)

    def _guarded(
        self, trainee: Trainee, action: Callable[[Trainee], None], shared: bool = False
    ) -> None:
        # One run's error (a decomposition that does not converge, say) is not its neighbours'.
        # ``shared``: all processes do this together.
        try:
            action(trainee)
        except (Interrupted, MemoryError):
            raise
        except Exception as error:
            if shared and not isinstance(error, PeerFailedError):
                self.crew.report(trainee.run.key, error)
            self.active = [t for t in self.active if t is not trainee]
            self.listener.failed(trainee, error)


def _at_size(trainee: Trainee, batches: Iterator[Batch]) -> Iterator[Batch]:
    size = trainee.recipe.input_size
    return (batch._replace(images=resized(batch.images, size)) for batch in batches)
