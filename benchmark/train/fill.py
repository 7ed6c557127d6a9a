"""Ask a teacher all that students will ask it, so that they find the answers.

A job of its own: it reads which pictures the students' schedules show, asks for those whose answers
are not kept yet, and leaves whenever it is told to; another one continues. Whether all of it may be
kept, and has room, is known before the first question.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmark.base.errors import UserError
from benchmark.base.words import amount
from benchmark.data.datasets import require_dataset
from benchmark.data.resident import ResidentBatches
from benchmark.methods.catalog import add_plugin
from benchmark.run.answers import used
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile
from benchmark.run.state import RunState
from benchmark.train.answer_file import Rows
from benchmark.train.answer_store import SPARE_SHARE, AnswerStore, Part
from benchmark.train.answers import SMALLEST, Answers, open_answers
from benchmark.train.asked import kept_among, maps_read
from benchmark.train.asked_pictures import pictures_of
from benchmark.train.crew import ALONE
from benchmark.train.report import PackReporter
from benchmark.train.start import check_versions, open_data, prepare_process
from benchmark.train.teacher import load_teacher
from benchmark.train.watcher import Outcome, Surroundings

_SAY_SECONDS = 60.0
_READ_AT_ONCE = 4096
_BLOCK = 4096  # bytes; disks give room in whole blocks


def fill(pack: PackFile, where: Surroundings) -> Outcome:
    """Keep the answers to all that the runs of a pack will ask their teacher.

    Raises UserError where they cannot be kept, or have no room.
    """
    for path in pack.plugins:
        add_plugin(path)
    for run in pack.runs:
        check_versions(run)
    outcome, reporter = Outcome(), where.reporter()
    try:
        _fill(pack, where, outcome, reporter)
    except OSError as error:
        raise UserError(f"the answers cannot be kept: {error.strerror or error}") from error
    finally:
        reporter.close()
    return outcome


def _fill(pack: PackFile, where: Surroundings, outcome: Outcome, reporter: PackReporter) -> None:
    refused: list[str] = []
    answers, batches = _opened(pack, refused)
    store, first = answers.store, pack.runs[0]
    if store is None:
        raise UserError(refused[0] if refused else "BENCH_TEACHER_ANSWERS lets none be kept")
    names = _names(pack.runs)
    like = answers.network.probe(batches.image_shape)
    parts = [store.part(name, getattr(like, name)) for name in names]
    wanted = pictures_of(pack.runs, batches.num_train)
    missing = _missing(parts, wanted)
    check_room(store, parts, missing)
    reporter.say(f"{pack.label}: {len(wanted):,} questions, {len(missing):,} of them to ask")
    done, spoke = 0, time.monotonic()
    for rows in _batches(missing, wanted, first.recipe.batch_size):
        reason = where.stop()
        if reason is not None:
            outcome.advanced = done > 0
            outcome.note(pack.id, RunState.STOPPED, reason)
            reporter.say(f"stopped: {reason}; {done:,} of {len(missing):,} are kept")
            return
        _ask(answers, batches, rows, names)
        if refused:
            raise UserError(refused[0])
        done = min(len(missing), done + len(rows))
        if time.monotonic() - spoke >= _SAY_SECONDS:
            spoke = time.monotonic()
            reporter.say(f"{pack.label}: {done:,} of {len(missing):,}")
    reporter.say(f"{pack.label}: all {len(wanted):,} answers are kept")


def _opened(pack: PackFile, refused: list[str]) -> tuple[Answers, ResidentBatches]:
    first = pack.runs[0]
    prepare_process(first)
    batches = open_data(first, pack, ALONE.share(1))
    if not isinstance(batches, ResidentBatches):
        raise UserError(f"{pack.label}: this reader does not number the pictures that it shows")
    classes = require_dataset(first.dataset.name, pack.data_dir).classes
    teacher = load_teacher(first, batches.num_classes, pack.runs_dir, classes, pack.files)
    teacher.network.fold(batches.image_shape)
    return open_answers(first, teacher, batches, pack.runs_dir, refused.append), batches


def _names(runs: Sequence[Run]) -> list[str]:
    """Return which outputs the methods of these runs read."""
    read = frozenset[str]().union(*(maps_read(run) or () for run in runs))
    return kept_among(read)


def _missing(parts: Sequence[Part], rows: Rows) -> Rows:
    """Return the rows of which some output is not kept."""
    if any(part.file.size() == 0 for part in parts):
        return rows
    found = [rows[:0]]
    for start in range(0, len(rows), _READ_AT_ONCE):
        some = rows[start : start + _READ_AT_ONCE]
        there = np.logical_and.reduce([part.file.read(some)[1] for part in parts])
        found.append(some[~there])
    return np.concatenate(found)


def check_room(store: AnswerStore, parts: Sequence[Part], rows: Rows) -> None:
    """Raise UserError where rows do not fit: below the limit, with space left for others."""
    blocks = 0
    for part in parts:
        begin = rows * part.file.row_bytes
        end = begin + part.file.row_bytes - 1
        blocks += len(np.unique(np.concatenate([begin // _BLOCK, end // _BLOCK])))
    need, there = blocks * _BLOCK, used(store.root)
    if there + need > store.limit:
        raise UserError(
            f"the answers take {amount(need)} more and {amount(there)} are kept:"
            f" BENCH_TEACHER_ANSWERS allows {amount(store.limit)} in all"
        )
    space = os.statvfs(store.folder)
    free = int((space.f_bavail - SPARE_SHARE * space.f_blocks) * space.f_frsize)
    if need > free:
        raise UserError(
            f"the answers take {amount(need)} more and {store.folder} has"
            f" {amount(max(0, free))} for them ({SPARE_SHARE:.0%} of the disk are left to others)"
        )


def _batches(missing: Rows, wanted: Rows, size: int) -> Iterator[Rows]:
    """Yield the missing rows in batches of one size, since each size has to be proved.

    The last batch is filled up from behind; a batch that is too small to be kept, with rows that
    are there.
    """
    if 0 < len(missing) < SMALLEST:
        missing = np.union1d(missing, np.setdiff1d(wanted, missing)[:SMALLEST])
    for start in range(0, len(missing), size):
        yield missing[max(0, min(start, len(missing) - size)) :][:size]


def _ask(answers: Answers, batches: ResidentBatches, rows: Rows, names: Sequence[str]) -> None:
    numbers = torch.from_numpy(rows)
    count = answers.num_variants
    batch = batches.pictures(numbers // count, numbers % count)
    answers.features(batch, [name for name in names if name != "logits"])
