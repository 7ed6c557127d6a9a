"""What a job does: find its pack, train it, and come back after an interruption.

Every executor's job ends in :func:`train_here`; a task of Slurm is :func:`run_task`, a job of
this machine's queue :func:`run_pack_in_job`. torch is imported only to train.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.log import reporting, say
from benchmark.run.pack_file import PackFile
from benchmark.run.state import RunState
from benchmark.slurm import commands
from benchmark.slurm.notation import Tag
from benchmark.slurm.survive import EXIT_INTERRUPTED, Interruption, settle, this_job
from benchmark.submission import marks
from benchmark.submission.crews import Helpers, processes_of
from benchmark.submission.folder import Folder
from benchmark.submission.process import answer
from benchmark.submission.successors import follow_teacher
from benchmark.train.place import Place, in_step, told

if TYPE_CHECKING:
    from benchmark.train.report import PackReporter
    from benchmark.train.watcher import Outcome

_PAUSED_SECONDS = 5.0


def train_here(
    pack: PackFile,
    stop: Callable[[], str | None] = lambda: None,
    reporter: Callable[[], PackReporter] | None = None,
    place: Place | None = None,
    helpers: Helpers | None = None,
) -> Outcome:
    """Train a pack in this process, or ask its teacher what it asks for.

    Raises UserError if nothing of it can be trained.

    ``place``: among the processes that train it together; ``helpers`` are those that this one
    starts itself.
    """
    from benchmark.train.crew import ALONE, Interrupted
    from benchmark.train.pack import Surroundings, train_pack
    from benchmark.train.report import default_reporter
    from benchmark.train.watcher import Outcome

    ended = frozenset(filter(None, os.environ.get("BENCH_ENDED", "").split(",")))
    where = Surroundings(
        stop=stop, reporter=reporter or default_reporter, ended=ended, **checkpoint_seconds()
    )
    if pack.fills:
        from benchmark.train.fill import fill

        return fill(pack, where)
    if helpers is not None:
        place = helpers.place
    if place is None:
        return train_pack(pack, where, ALONE)
    from benchmark.train.join import join

    try:
        if helpers is None:
            crew = join(place, stop)
        else:
            crew = join(place, stop, helpers.missing, helpers.start)
    except Interrupted as asked:
        outcome = Outcome()
        for key in pack.keys if place.process == 0 else ():
            outcome.note(key, RunState.STOPPED, str(asked))
        return outcome
    try:
        return train_pack(pack, where, crew)
    finally:
        crew.close()


def checkpoint_seconds() -> dict[str, float]:
    """How often to save, if BENCH_CHECKPOINT_SECONDS says it; never a matter of numbers.

    Raises UserError if that is no number of seconds.
    """
    text = os.environ.get("BENCH_CHECKPOINT_SECONDS")
    if text is None:
        return {}
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"BENCH_CHECKPOINT_SECONDS is '{text}', which is no number of seconds")
    return {"checkpoint_seconds": seconds}


@contextmanager
def stop_on_signal(
    *signals: signal.Signals, insisting: Callable[[], None] = lambda: None
) -> Iterator[dict[str, str]]:
    """Turn signals into a request to stop, under "why"; further ones call ``insisting``."""
    asked: dict[str, str] = {}

    def ask(number: int, _frame: object) -> None:
        if asked:
            insisting()
        asked["why"] = signal.Signals(number).name

    before = {s: signal.signal(s, ask) for s in signals}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- a job of this machine's queue ----------------------------------------------------------------


def run_pack_in_job(folder: Path, number: int, gpus: Sequence[str]) -> dict[str, Any]:
    """Train a pack of a submission; what it returns crosses processes as JSON.

    The job sees the GPUs of these names alone. SIGTERM asks it to save its state and end.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # before torch looks at it
    from benchmark.train.report import Lines

    try:
        with reporting(), stop_on_signal(signal.SIGTERM) as asked:
            pack = Folder(folder).read(0, number)
            outcome = train_in_processes(
                pack, folder, number, processes_of(pack.runs[0], len(gpus)), asked, Lines
            )
    except UserError as error:
        return {"exit_code": 2, "endings": {}, "reasons": {"": str(error)}}
    return {
        "exit_code": outcome.exit_code,
        "endings": dict(outcome.endings),
        "reasons": dict(outcome.reasons),
    }


def train_in_processes(
    pack: PackFile,
    folder: Path,
    number: int,
    processes: int,
    asked: Mapping[str, str],
    reporter: Callable[[], PackReporter] | None = None,
) -> Outcome:
    """Train pack ``number`` of a submission here, with others that are started for it."""
    with contextlib.ExitStack() as stack:
        helpers = None
        if processes > 1:
            helpers = stack.enter_context(Helpers(folder, number, processes))
        return train_here(pack, lambda: asked.get("why"), reporter, helpers=helpers)


def follow_in_job(folder: Path, number: int) -> int:
    """Be one of the processes that the job of a pack has started, and return the exit code."""
    from benchmark.train.report import Lines

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one's, who tells the others
    with reporting(), stop_on_signal(signal.SIGTERM) as asked:
        try:
            pack = Folder(folder).read(0, number)
            train_here(pack, lambda: asked.get("why"), Lines, place=told())
        except UserError as error:
            say(str(error))
            return 2
    return 0


def train_and_answer(folder: Path, number: int, gpus: Sequence[str], descriptor: int) -> None:
    """Train a pack of a submission, and answer the queue that asked for it."""
    answer(descriptor, run_pack_in_job(folder, number, gpus))


def get_ready() -> None:
    """Import what a pack would import until its first step; nothing of CUDA is touched."""
    import torch

    import benchmark.train.pack
    import benchmark.train.report  # noqa: F401

    # The first step of an optimiser imports torch's compiler.
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0)
    optimizer.step()
    assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


# -- a task of Slurm ------------------------------------------------------------------------------


class TaskReport(NamedTuple):
    """How a pack's training ended.

    ``code``: 0 if every run has its result, 1 otherwise. ``reasons``: a line for each run that
    failed. ``interrupted``: whether the interruption was heeded. ``advanced``: whether the
    checkpoints are further than at the start. ``cancelled``: whether all that is left was
    cancelled. ``unsaved``: why the state of a run could not be saved.
    """

    code: int
    reasons: tuple[str, ...] = ()
    interrupted: bool = False
    advanced: bool = False
    cancelled: bool = False
    unsaved: str = ""


def with_own_plugins(pack: PackFile, folder: Folder) -> PackFile:
    """Return a pack with copies, that nobody else can change, of the plug-ins in its folder.

    Raises UserError if they cannot be read.
    """
    paths = [
        _own_plugin(folder, path) if path.is_relative_to(folder.path) else path
        for path in pack.plugins
    ]
    return pack.model_copy(update={"plugins": tuple(paths)})


@cache
def _own_plugin(folder: Folder, path: Path) -> Path:
    place = Path(tempfile.mkdtemp(prefix="bench-plugins-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    try:
        content = folder.read_plugin(path)
    except OSError as error:
        raise UserError(f"cannot read the plug-in {path}: {error.strerror}") from error
    (place / path.name).write_bytes(content)
    return place / path.name


Train = Callable[[PackFile, Interruption], TaskReport]


def run_task(folder: Folder, array: int, train: Train) -> int:
    """Run this process's task of an array and return its exit code."""
    interruption = Interruption().install()
    number = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    job = this_job()
    assert job is not None, "a task of Slurm's has a job"
    task = job[0]
    reason = marks.held(folder)
    if reason is not None:
        say(f"not started: this submission is held ({reason})")
        return 1
    place = in_step(folder.path)
    if place is not None and place.process > 0:
        return _follow(folder, array, number, place, interruption)
    try:
        code = _hold_back(folder, task, interruption)
        if code is not None:
            return code
        pack = with_own_plugins(folder.read(array, number), folder)
        _show(pack)
        if follow_teacher(pack, task):
            return EXIT_INTERRUPTED
        report = train(pack, interruption)
    except UserError as error:
        say(str(error))
        report = TaskReport(1, (str(error),))
    if report.interrupted and interruption.received is not None:
        return _leave(interruption, report)
    for reason in report.reasons:
        say(reason)
    if report.reasons:
        _fail(folder, task, report.reasons[0])
    return report.code


def _follow(
    folder: Folder, array: int, number: int, place: Place, interruption: Interruption
) -> int:
    """Train with the first task of a step, which alone deals with Slurm and the disk."""
    from benchmark.train.report import Lines

    while marks.paused(folder) is not None and not interruption:
        time.sleep(_PAUSED_SECONDS)  # the first one sends all of them back
    try:
        pack = with_own_plugins(folder.read(array, number), folder)
        train_here(pack, interruption.name, Lines, place)
    except UserError as error:
        say(f"task {place.process}: {error}")
        return 1
    return 0


def _hold_back(folder: Folder, task: str, interruption: Interruption) -> int | None:
    """Go back into the queue, held, if the submission is paused: whoever resumes starts it.

    It waits here while Slurm does not answer, until it is resumed or interrupted. Returns the
    exit code, None if it may start.
    """
    while (reason := marks.paused(folder)) is not None:
        if interruption:
            paused = TaskReport(1, interrupted=True, advanced=True)
            return _leave(interruption, paused)
        say(f"not started: {reason}")
        try:
            commands.ask(["scontrol", "requeuehold", task])
            return EXIT_INTERRUPTED
        except commands.SlurmError as error:
            say(str(error))
            time.sleep(_PAUSED_SECONDS)
    return None


def _leave(interruption: Interruption, report: TaskReport) -> int:
    job = this_job()
    assert interruption.received is not None
    if job is None:
        return EXIT_INTERRUPTED
    decision = settle(
        interruption.received,
        job=job[0],
        restarts=job[1],
        advanced=report.advanced,
        cancelled=report.cancelled,
        unsaved=report.unsaved,
    )
    say(f"{interruption.received.name}: {decision.reason}; {decision.action}")
    return decision.code


def _fail(folder: Folder, task: str, reason: str) -> None:
    try:
        if marks.note_failure(folder, task, reason):
            say(f"{marks.LIMIT} tasks failed with the same error, holding the rest: {reason}")
            marks.hold(folder, reason)
    except (OSError, UserError) as error:
        say(f"could not note this failure: {error}")


def _show(pack: PackFile) -> None:
    """Let squeue and sacct show this task's pack instead of the array's size."""
    nonce = os.environ.get("BENCH_NONCE", "")
    tag = Tag(pack.table, pack.label, nonce)
    job = this_job()
    if nonce and job is not None:
        # For people only: if slurmctld is busy, or no node has scontrol, the task starts so.
        try:
            commands.call(
                ["scontrol", "update", f"JobId={job[0]}", f"Comment={tag.comment}"], timeout=5
            )
        except commands.SlurmError:
            return


def train(pack: PackFile, interruption: Interruption) -> TaskReport:
    """Train a pack here until it is done or interrupted."""
    from benchmark.train.report import Lines

    if not pack.runs_dir.is_dir():
        raise UserError(f"the runs directory {pack.runs_dir} is not visible on {os.uname()[1]}")
    try:
        place = in_step(Path(os.environ.get("BENCH_SUBMISSION", ".")))
        return report_of(train_here(pack, interruption.name, Lines, place))
    except UserError:
        raise
    except Exception as error:  # a failure like any other, whose traceback goes to the log
        say(traceback.format_exc())
        words = " ".join(str(error).split()) or "no reason given"
        return TaskReport(1, (f"{type(error).__name__}: {words}",))


def report_of(outcome: Outcome) -> TaskReport:
    """Say of a pack's outcome what a task has to know.

    A run that another process holds, or that is cancelled, is no failure.
    """
    endings = set(outcome.endings.values())
    failed = [key for key, ending in outcome.endings.items() if ending is RunState.FAILED]
    lost = (outcome.lost,) if outcome.lost else ()
    reasons = tuple(outcome.reasons.get(key, "no reason given") for key in failed)
    return TaskReport(
        code=outcome.exit_code,
        reasons=reasons + lost,
        interrupted=bool(endings & {RunState.STOPPED, RunState.CANCELLED}),
        advanced=outcome.advanced,
        cancelled=RunState.CANCELLED in endings and RunState.STOPPED not in endings,
        unsaved=outcome.unsaved,
    )
