"""How one run stands, from its directory alone: what every command, list and file shows of it.

A run's name is a hash of what it is, so a cell.json whose hash is right is taken as it stands,
also if this version of the project would spell it otherwise: such a run belongs to a cell of its
own, whose differences are then named. Everything else that does not fit together (a result that
is truncated, not of this run, or not a percentage; a file that may not be read, or that is none)
makes a run damaged, with the reason. Nothing that lies in a run's directory raises an error here,
keeps the reader waiting or fills the memory. Imports no torch.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular, read_json
from benchmark.base.words import printable, short
from benchmark.run.directory import RunDir
from benchmark.run.identity import SCHEMA, Run, cell_identity_of, digest, identity_of, slug_of
from benchmark.run.lease import sign_of_life
from benchmark.run.measured import OTHER_FORM, Measured, Prediction, measured_of, prediction_of
from benchmark.run.state import RunState

STATISTICS = ("last", "best", "median_of_last_5", "mean_of_last_5")
METRICS = ("top1", "top5")
_PLACES = {name: n for n, name in enumerate((m, s) for m in METRICS for s in STATISTICS)}
# The last lines of the records: enough for the newest epoch whatever it holds.
_TAIL_BYTES = 8192
_LONGEST_REASON = 2000  # characters
# Seconds, moments and counts beyond this are damage; sums and products of lesser ones are finite.
_LARGEST = 1e15
_LONGEST_CELL = 1_000_000  # bytes; a run with many options has a hundredth of it
_KEY = re.compile(r"-s\d+-[0-9a-f]{12}")

# What a reader is told of the cell that it met: its key and its identity.
Learn = Callable[[str, dict[str, Any]], None]


class Progress(NamedTuple):
    """How far a run has come: whole epochs, and what its newest one took.

    ``seconds``: the newest epoch's; ``own``: this run's share of them among those it is packed
    with; ``age``: seconds since that epoch ended.
    """

    epoch: int
    epochs: int
    seconds: float
    own: float
    images_per_second: float
    age: float


class Reading(NamedTuple):
    """What one run directory says.

    ``reason``: why it failed or is damaged. ``cell``: the cell's key, empty if not even that can
    be told. ``teacher``: what was planned (a run's key or a checkpoint's digest);
    ``teacher_file``: the start of the digest of the file that was read. ``attempts``: how many
    failed alike, ``failed``: when the last one did. ``silence``: seconds since the heartbeat of a
    holder that is not known to be dead. ``own_seconds``: what its epochs cost, shared with the
    runs it is packed with; of an unfinished run that is estimated from its newest epoch.
    ``numbers``: percent, see :meth:`value`. ``teacher_top1``: what a teacher of the user's own was
    measured at before it taught. Moments are seconds since 1970.
    """

    key: str
    state: RunState
    reason: str = ""
    cell: str = ""
    seed: int = 0
    teacher: str | None = None
    attempts: int = 0
    failed: float = 0.0
    silence: float | None = None
    holder: str = ""
    progress: Progress | None = None
    restarts: int = 0
    own_seconds: float = 0.0
    gpu: bool = False
    ended: float = 0.0
    commit: str | None = None
    teacher_file: str | None = None
    val_top1: float | None = None
    numbers: tuple[float, ...] = ()
    measured: Measured | None = None
    prediction: Prediction | None = None
    teacher_top1: float | None = None

    @property
    def silent(self) -> bool:
        """Whether its files tell neither how it ended nor that somebody is at work on it."""
        return self.state in (RunState.STOPPED, RunState.MISSING) and self.silence is None

    def value(self, metric: str, statistic: str) -> float:
        """Return an accuracy in percent; only a run that is done has them."""
        return self.numbers[_PLACES[metric, statistic]]


def read(rundir: RunDir, learn: Learn | None = None) -> Reading:
    """Return how a run stands. Never raises; a folder that is no run's is ``missing``."""
    known = Reading(printable(rundir.key), RunState.MISSING)
    is_run = _KEY.search(rundir.key) is not None
    try:
        cell_file, result_file = rundir.cell, rundir.result
        has_cell, has_result = _is_there(cell_file), _is_there(result_file)
        is_run = is_run or has_cell or has_result
        if not has_cell and not has_result:
            return _without_cell(known, rundir)
        if not has_cell:
            raise UserError(f"{rundir.path} has a result and no cell.json")
        cell = read_json(cell_file, SCHEMA, _LONGEST_CELL)
        known = _identified(known, cell, rundir, learn)
        if has_result:
            return _finished(known, rundir.key, result_file)
        found = _unfinished(known, cell, rundir)
        # It may have ended since its result was looked for.
        gone = found.silence is None and _is_there(result_file)
        return _finished(known, rundir.key, result_file) if gone else found
    except UserError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or rundir.path} cannot be read: {error.strerror}"
    if not is_run or not os.path.lexists(rundir.path):
        return known._replace(state=RunState.MISSING)
    return known._replace(state=RunState.DAMAGED, reason=short(reason, _LONGEST_REASON))


def signature(run: Run) -> str:
    """Return what a run and a slot must have in common to belong together, overrides or not."""
    return signature_of(run.identity)


def signature_of(identity: dict[str, Any]) -> str:
    """Return the signature of a cell, or of a run, by its identity."""
    teacher = identity["teacher"]["model"] if identity["teacher"] else ""
    names = [method["name"] for method in identity["methods"]]
    return "|".join([identity["dataset"]["name"], teacher, identity["model"], *names])


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _without_cell(known: Reading, rundir: RunDir) -> Reading:
    """Return how a folder stands that is being made or deleted, or holds a mark alone."""
    if not os.path.lexists(rundir.path):
        return known
    if not stat.S_ISDIR(os.stat(rundir.path).st_mode):
        raise UserError(f"{rundir.path} is not a directory")
    if _is_there(rundir.cancelled):
        return known._replace(state=RunState.CANCELLED)
    sign = sign_of_life(rundir.lease)
    if sign is None or not sign.fresh:
        return known
    holder = short(sign.holder)
    return known._replace(state=RunState.RUNNING, silence=sign.silence, holder=holder)


# -- what it is -----------------------------------------------------------------------------


def _identified(
    known: Reading, data: dict[str, Any], rundir: RunDir, learn: Learn | None
) -> Reading:
    """Return which run the directory is, after checking that its name says so."""
    try:
        seed = data["seed"]
        if not (type(seed) is int and 0 <= seed < 2**63):
            raise ValueError(f"the seed is {seed!r}")
        identity = identity_of(data)
        cell_identity = cell_identity_of(identity)
        slug = slug_of(identity)
        key = f"{slug}-s{seed}-{digest(identity)}"
        cell = f"{slug}-{digest(cell_identity)}"
        teacher = (data["teacher"] or {}).get("key")
        if not (teacher is None or isinstance(teacher, str)):
            raise ValueError(f"its teacher's key is {short(repr(teacher))}")
        signature_of(identity)
        text = json.dumps(identity)
        if "\\" in text or not text.isprintable():  # what is plain text is told as a whole
            _refuse_control(identity)
    except KeyError as error:
        reason = f"it has no '{error.args[0]}'"
        raise UserError(f"{rundir.cell} does not describe a run: {reason}") from error
    except ValueError as error:
        raise UserError(f"{rundir.cell} does not describe a run: {error}") from error
    except (TypeError, AttributeError, RecursionError) as error:
        reason = "what it holds is of another form"
        raise UserError(f"{rundir.cell} does not describe a run: {reason}") from error
    if key != rundir.key:
        raise UserError(
            f"{rundir.cell} describes {key}: the directory was renamed, copied or edited"
        )
    if learn is not None:
        learn(cell, cell_identity)
    return known._replace(cell=cell, seed=seed, teacher=teacher)


def _refuse_control(value: Any) -> None:
    """Refuse text that a terminal would obey: names and options are shown. Raises ValueError."""
    if isinstance(value, str) and not value.isprintable():
        raise ValueError(f"it holds control characters, {value[:40]!r}")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_control(name)
            _refuse_control(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_control(inner)


# -- a run with a result --------------------------------------------------------------------


def _finished(known: Reading, key: str, path: Path) -> Reading:
    result = read_json(path, SCHEMA)
    if result.get("key") != key:
        raise UserError(f"{path} is the result of {result.get('key')}, not of {key}")
    origin = result.get("provenance")
    origin = origin if isinstance(origin, dict) else {}
    commit, file = origin.get("commit"), result.get("teacher_digest")
    found = known._replace(
        state=RunState.DIVERGED,
        ended=path.stat().st_mtime,
        restarts=int(_real(result.get("restarts"))),
        own_seconds=_real(result.get("own_seconds")),
        gpu=bool(origin.get("gpu")),
        commit=short(commit) if isinstance(commit, str) else None,
        teacher_file=file.removeprefix("sha256:")[:12] if isinstance(file, str) else None,
        measured=measured_of(result),
        prediction=prediction_of(result),
        teacher_top1=_real(top1) if (top1 := result.get("teacher_top1")) is not None else None,
    )
    if result.get("diverged") is True:
        return found
    if result.get("diverged") is not False:
        raise UserError(f"{path} is not a complete result: it does not say whether it diverged")
    numbers = tuple(_metric(result, metric, statistic, path) for metric, statistic in _PLACES)
    for metric in METRICS:
        best, last = (numbers[_PLACES[metric, statistic]] for statistic in ("best", "last"))
        if best < last:
            raise UserError(f"{path}: {metric} best is {best}, which is below the last, {last}")
    held_out = result.get("val_top1")
    val_top1 = None if held_out is None else _percent(held_out, "val_top1", path)
    return found._replace(state=RunState.DONE, numbers=numbers, val_top1=val_top1)


def _metric(result: dict[str, Any], metric: str, statistic: str, path: Path) -> float:
    try:
        value = result["metrics"][metric][statistic]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a complete result: it has no {metric} {statistic}"
        ) from error
    return _percent(value, f"{metric} {statistic}", path)


def _percent(value: Any, name: str, path: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 100.0:  # NaN is in no interval
        raise UserError(f"{path}: {name} is {value!r}, not a percentage")
    return float(value)


def _real(value: Any, otherwise: float = 0.0) -> float:
    """Return a number that a file holds; one that is no float, or beyond reason, is none."""
    try:
        number = float(value) if type(value) in (int, float) else otherwise
    except OverflowError:
        return otherwise
    return number if abs(number) <= _LARGEST else otherwise  # NaN is not


# -- a run without a result -----------------------------------------------------------------


def _unfinished(known: Reading, cell: dict[str, Any], rundir: RunDir) -> Reading:
    # The lease first: whoever gives a run back has noted before how it ended.
    sign = sign_of_life(rundir.lease)
    restarts, gpu = _starts(rundir)
    progress = _progress(rundir, cell)
    found = known._replace(
        state=RunState.STOPPED,
        silence=sign.silence if sign else None,
        holder=short(sign.holder) if sign else "",
        progress=progress,
        restarts=restarts,
        gpu=gpu,
        own_seconds=progress.epoch * progress.own if progress else 0.0,
    )
    if _is_there(rundir.failure):
        found = _failure(found, rundir)
    if _is_there(rundir.cancelled):
        return found._replace(state=RunState.CANCELLED)
    return found._replace(state=RunState.RUNNING) if sign is not None and sign.fresh else found


def _starts(rundir: RunDir) -> tuple[int, bool]:
    """Return how often a run was started again, and whether it uses a GPU."""
    if not _is_there(rundir.provenance):
        return 0, False
    try:
        starts = read_json(rundir.provenance, SCHEMA)["starts"]
        return max(0, len(starts) - 1), bool(starts and starts[-1].get("gpu"))
    except UserError:
        raise
    except OTHER_FORM as error:
        reason = "what it holds is of another form"
        raise UserError(f"{rundir.provenance} does not list starts: {reason}") from error


def _failure(found: Reading, rundir: RunDir) -> Reading:
    """Return a reading with why the last attempt ended, and how many ended alike.

    A file that says nothing is a failure too: the next one replaces it.
    """
    reason, attempts, when = "", 1, 0.0
    try:
        failure = read_json(rundir.failure, SCHEMA)
        reason = str(failure.get("reason") or "no reason was noted")
        attempts = max(1, int(_real(failure.get("count"), 1.0)))
        when = _real(failure.get("time"))
    except UserError as error:
        if not stat.S_ISREG(os.stat(rundir.failure).st_mode):
            raise
        reason = str(error)
    return found._replace(
        state=RunState.FAILED, reason=short(reason, _LONGEST_REASON), attempts=attempts, failed=when
    )


def _progress(rundir: RunDir, cell: dict[str, Any]) -> Progress | None:
    """Return how far an unfinished run is, None before its first epoch ended."""
    try:
        with open_regular(rundir.records) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES).decode(errors="replace")
            age = max(0.0, time.time() - os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        return None
    try:
        # The last line that is whole.
        last = json.loads([line for line in tail.split("\n")[:-1] if line][-1])
        seconds = _real(last.get("seconds"))
        epoch, epochs = int(last["epoch"]), int(cell["recipe"]["epochs"])
        if not 0 <= epoch <= epochs <= _LARGEST:
            return None
        return Progress(
            epoch=epoch,
            epochs=epochs,
            seconds=seconds,
            own=seconds / max(1, int(last.get("packed") or 1)),
            images_per_second=_real(last.get("images_per_second")),
            age=age,
        )
    except (*OTHER_FORM, RecursionError):
        return None
