"""Runs as TensorBoard event files: curves by epoch, and what a run is for its HParams page.

Written with tensorboard's own records and without torch or TensorFlow. A run has one file, in a
folder of its own name, which is replaced when it is exported again; the same run gives the same
bytes. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.extras import optional
from benchmark.base.files import make_directory, replacing
from benchmark.export.exported import ExportedRun, seconds_before_end

_ACCURACIES = ("train_top1", "test_top1", "test_top5", "val_top1", "average_top1", "average_top5")
_LOSSES = {"test_loss": "loss/test", "average_loss": "loss/average"}
_SPEED = ("seconds", "data_wait", "teacher_seconds", "student_seconds", "images_per_second")


def check() -> None:
    """Raise UserError where tensorboard is not installed."""
    optional("tensorboard.compat.proto.event_pb2", "tensorboard", "TensorBoard files")


def write(runs: Iterable[ExportedRun], folder: Path) -> list[Path]:
    """Write ``FOLDER/RUN/events.out.tfevents.*`` for each run, and return the files."""
    check()
    return [_write(run, folder / run.key) for run in runs]


def _write(run: ExportedRun, folder: Path) -> Path:
    from tensorboard.summary.writer.record_writer import RecordWriter

    make_directory(folder)
    path = folder / f"events.out.tfevents.0.{run.key}"
    try:
        with replacing(path) as file:
            records = RecordWriter(file)
            for event in _events(run):
                records.write(event.SerializeToString(deterministic=True))
            records.flush()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return path


def _events(run: ExportedRun) -> Iterator[Any]:
    """Yield tensorboard's events: the version, what the run is, its numbers by epoch."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2

    earlier = seconds_before_end(run)
    began = run.ended - (earlier[0] if earlier else 0.0)
    yield Event(wall_time=began, file_version="brain.Event:2")
    told = summary_v2.hparams_pb(dict(run.what), trial_id=run.key, start_time_secs=began)
    yield Event(wall_time=began, summary=_of_this_kind(told))
    for (epoch, numbers), before in zip(run.epochs, earlier, strict=True):
        values = [Summary.Value(tag=tag_of(name), simple_value=v) for name, v in numbers.items()]
        yield Event(wall_time=run.ended - before, step=epoch, summary=Summary(value=values))
    last = run.epochs[-1][0] if run.epochs else 0
    values = [Summary.Value(tag=f"result/{n}", simple_value=v) for n, v in run.results.items()]
    yield Event(wall_time=run.ended, step=last, summary=Summary(value=values))


def _of_this_kind(summary: Any) -> Any:
    # With TensorFlow installed, tensorboard's plug-ins make TensorFlow's kind of the same message.
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.FromString(summary.SerializeToString())


def tag_of(name: str) -> str:
    """Return the tag of a number: TensorBoard groups them by what stands before the slash."""
    if name in _ACCURACIES:
        return f"accuracy/{name}"
    if name in _SPEED:
        return f"speed/{name}"
    return _LOSSES.get(name, name)
