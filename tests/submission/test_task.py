"""A task's training: interrupted, continued, cancelled."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.remaining import plan_packs
from benchmark.run.directory import RunDir
from benchmark.run.pack_file import PackFile
from benchmark.run.state import RunState
from benchmark.slurm.survive import Interruption
from benchmark.submission.task import TaskReport, report_of, train
from benchmark.train.watcher import Outcome
from tests.helpers import digits_plan, numbers
from tests.helpers import train as train_here


@pytest.mark.parametrize(
    ("endings", "report"),
    [
        ({"a": "done", "b": "diverged"}, TaskReport(0)),
        ({"a": "done", "b": "held"}, TaskReport(1)),  # somebody else's, and no failure
        ({"a": "failed", "b": "done"}, TaskReport(1, ("why a",))),
        ({"a": "stopped", "b": "cancelled"}, TaskReport(1, interrupted=True)),
        ({"a": "done", "b": "cancelled"}, TaskReport(1, interrupted=True, cancelled=True)),
    ],
)
def test_what_a_task_makes_of_an_outcome(endings: dict[str, Any], report: TaskReport) -> None:
    assert (
        report_of(
            Outcome(
                {k: RunState(v) for k, v in endings.items()}, {key: f"why {key}" for key in endings}
            )
        )
        == report
    )


@pytest.fixture
def pack(digits: Path, tmp_path: Path) -> PackFile:
    plan = digits_plan(digits, ["row=Student", "column=wrn_16_2-resnet8"])
    (pack,) = plan_packs(plan, list(plan.runs))
    (tmp_path / "runs").mkdir()
    return pack.file(tmp_path / "runs", digits)


def test_it_advances_or_says_that_it_did_not(
    pack: PackFile, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interruption = Interruption()
    interruption.received = signal.SIGUSR2
    report = train(pack, interruption)
    assert report == TaskReport(1, interrupted=True, advanced=True)
    # The same again, on a disk that takes no checkpoint.
    with monkeypatch.context() as patch:
        patch.setattr("benchmark.train.state.save", _full)
        report = train(pack, interruption)
    full = "[Errno 28] No space left on device"
    assert report == TaskReport(1, interrupted=True, advanced=False, unsaved=full)

    (key,) = pack.keys
    RunDir(tmp_path / "runs", key).cancelled.touch()
    assert train(pack, interruption).cancelled
    RunDir(tmp_path / "runs", key).cancelled.unlink()

    assert train(pack, Interruption()) == TaskReport(0, advanced=True)
    (run,) = digits_plan(digits, ["row=Student", "column=wrn_16_2-resnet8"]).runs
    train_here([run], digits, tmp_path / "whole")
    assert numbers(tmp_path / "runs", run) == numbers(tmp_path / "whole", run)


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_any_error_is_a_reason(pack: PackFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error:\nno kernel image")

    monkeypatch.setattr("benchmark.train.start.open_batches", broken)
    assert train(pack, Interruption()).reasons == ("RuntimeError: CUDA error: no kernel image",)


def test_what_it_cannot_start_with(
    pack: PackFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = pack.model_copy(update={"runs_dir": tmp_path / "elsewhere"})
    with pytest.raises(UserError, match="is not visible on"):
        train(elsewhere, Interruption())
    for wrong in ("often", "-1", "nan", ""):
        monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", wrong)
        with pytest.raises(UserError, match=f"'{wrong}', which is no number of seconds"):
            train(pack, Interruption())
