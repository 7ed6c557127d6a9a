"""The only way into a queue: check, size, pack, announce, start; for submit and for retry.

What is said of it is for the command line. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from benchmark.base.errors import UserError
from benchmark.base.log import say
from benchmark.methods.catalog import plugin_files
from benchmark.planning.kept_answers import Questions, shared_questions, with_fills
from benchmark.planning.matrix import Plan
from benchmark.planning.pack_size import PackSize
from benchmark.planning.packs import make_packs
from benchmark.planning.refuse import check_before_queue, refusals
from benchmark.planning.remaining import Queued, Remaining, remaining
from benchmark.planning.trial import check_trials
from benchmark.run.identity import Run
from benchmark.run.pack_file import Reader
from benchmark.submission.sent import busy_keys
from benchmark.submission.shared import distrust
from benchmark.submission.submission import (
    Executor,
    Prepared,
    Queue,
    Submission,
    new_submission,
)
from benchmark.submission.task import checkpoint_seconds
from benchmark.table.own_teachers import FileOfTeacher

Fill = Literal["ahead", "alone"]


@dataclass(frozen=True)
class Order:
    """Runs to hand over, teachers first, and how. ``teachers``: keys of runs that others wait for.

    ``queued``: runs that an earlier submission has, by key, whose students are among these.
    ``refused``: why others were refused already. ``files``: the user's own teachers, by sha256.
    ``fill``: ask teachers first, ahead of their students or alone, what is asked more than once.
    """

    table: str
    runs: tuple[Run, ...]
    teachers: frozenset[str]
    runs_dir: Path
    data_dir: Path
    pack_size: PackSize
    plugins: tuple[Path, ...] = ()
    reader: str | None = None
    queued: Mapping[str, Queued] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileOfTeacher] = field(default_factory=dict)
    fill: Fill | None = None


@dataclass(frozen=True)
class Ready:
    """An order that was checked and packed; nothing is changed yet.

    ``refused``: why some of its runs are left out, by key. ``questions``: what teachers are asked
    beforehand.
    """

    submission: Submission
    prepared: Prepared
    refused: Mapping[str, str] = field(default_factory=dict)
    questions: tuple[Questions, ...] = ()

    def start(self, wait: bool = False) -> int:
        """Start it; returns 1 if runs were left out or, with ``wait``, have no result; else 0."""
        code = self.prepared.send(wait)
        return max(code, int(bool(self.refused)))


@dataclass(frozen=True)
class ReadyPlan:
    """A plan that was checked and packed: what of it is left, and what is done about that."""

    plan: Plan
    left: Remaining
    ready: Ready

    @property
    def elsewhere(self) -> bool:
        """Whether some runs are left to others, or to a decision."""
        return bool(self.left.held or self.left.waiting or self.left.cancelled)

    def start(self, wait: bool = False) -> int:
        """Start it; with ``wait``, exit 1 if some runs were left to others."""
        return max(self.ready.start(wait), int(wait and self.elsewhere))


def prepare(order: Order, executor: Executor, queue: Queue, checked: bool = False) -> Ready:
    """Check, size and pack an order, and hold it against its executor. Nothing is changed.

    ``checked``: data, public teachers and the runs directory have been looked at already.
    Raises UserError if nothing of it can be trained, or its executor would refuse it.
    """
    checkpoint_seconds()  # which tasks would refuse
    why = distrust(order.runs_dir)
    if why is not None:
        say(
            f"others could replace what you submit in {order.runs_dir} ({why}); `bench init runs`,"
            " by its owner, sets it up for a group"
        )
    refused = order.refused
    if order.runs and not checked:
        check_before_queue(order.runs, order.data_dir, order.runs_dir, order.reader, order.files)
    refused = refusals(order.runs, order.runs_dir, refused)
    runs = [run for run in order.runs if run.key not in refused]
    if refused and not runs:
        raise UserError(next(iter(refused.values())))
    check_trials(runs, order.data_dir, order.plugins)
    sizer = order.pack_size.sizer(order.runs_dir, executor.limits, queue.killed)
    elsewhere = {key: queued.pack for key, queued in order.queued.items()}
    packs = make_packs(order.table, runs, order.teachers, sizer, elsewhere)
    questions: list[Questions] = []
    if order.fill is not None:
        found = shared_questions(packs, order.data_dir, order.reader)
        questions = [each for each in found if each.enough]
        packs = with_fills(packs, questions, alone=order.fill == "alone")
    plugins = [path.resolve() for path in order.plugins]
    where = (order.runs_dir, order.data_dir)
    reader = cast(Reader | None, order.reader)  # one of them, since it was checked
    submission = new_submission(
        order.table, packs, *where, plugins, reader, order.queued, order.files
    )
    return Ready(submission, executor.prepare(submission, queue), refused, tuple(questions))


def prepare_plan(
    plan: Plan,
    executor: Executor,
    *,
    runs_dir: Path,
    data_dir: Path,
    pack_size: PackSize,
    plugins: Sequence[Path] = (),
    reader: str | None = None,
    fill: Fill | None = None,
) -> ReadyPlan:
    """Prepare what is missing of a plan.

    Raises UserError before anything is queued if all of it would fail later.
    """
    if not plan.table.trainable:
        raise UserError(
            f"table {plan.table.name} can be shown and collected, but its protocol cannot be"
            " trained yet"
        )
    # The queue before the files: a run that ends in between is seen at least once.
    queue = executor.queue(runs_dir)
    check_before_queue(plan.runs, data_dir, runs_dir, reader, plan.files)
    busy = busy_keys(runs_dir)
    left = remaining(plan, runs_dir, queued=queue.runs, busy=busy, ended=queue.ended)
    order = Order(
        table=plan.table.name,
        runs=tuple(left.runs),
        teachers=frozenset(run.key for run in plan.teachers),
        runs_dir=runs_dir,
        data_dir=data_dir,
        pack_size=pack_size,
        plugins=tuple(dict.fromkeys([*(p.resolve() for p in plugins), *plugin_files()])),
        reader=reader,
        queued={run.key: queue.runs[run.key] for run in left.queued},
        refused=_left_out(left, runs_dir),
        files=plan.files,
        fill=fill,
    )
    return ReadyPlan(plan, left, prepare(order, executor, queue, checked=True))


def _left_out(left: Remaining, runs_dir: Path) -> dict[str, str]:
    """Return why runs of a plan cannot be trained as they stand, by key, and what to do."""
    found = {
        run.key: f"{left.readings[run.key].reason}; move {runs_dir / run.key} away to train it anew"
        for run in left.damaged
    }
    for run in left.untaught:
        assert run.teacher is not None
        teacher = run.teacher.key
        found[run.key] = f"its teacher cannot teach: {teacher} is {left.readings[teacher].state}"
    return found
