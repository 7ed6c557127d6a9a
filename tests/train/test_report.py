"""What a pack says while it trains: how far it is, once a minute by a clock of the test's own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.train.pace import Pace
from benchmark.train.pack import Surroundings, train_pack
from benchmark.train.report import Lines, Live


def test_a_line_a_minute_says_how_far_a_pack_is(
    runs: tuple[Run, Run], digits: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    """Every look at the clock is twenty seconds later: a step takes that long."""
    seconds = itertools.count(0, 20)
    pack = Pack("test", runs[:1]).file(tmp_path, digits)
    where = Surroundings(reporter=lambda: Lines(clock=lambda: float(next(seconds))))
    assert train_pack(pack, where).exit_code == 0
    said = [m for m in told.messages if m.startswith(f"{pack.label}: ")]
    size, steps = runs[0].recipe.batch_size, 100 // runs[0].recipe.batch_size
    assert said[:2] == [
        f"{pack.label}: 1 run",
        f"{pack.label}: epoch 1/2, step 3/{steps}, {3 * size / 60:.1f} images/s,"
        f" about {(2 * steps - 3) * 20} s left",
    ]
    assert len(said) > 2


@dataclass
class Standing:
    """Where a run stands, all that is asked of it here."""

    key: str
    epoch: int
    step: int = 0
    epochs: int = 10
    finished: bool = False
    steps_per_epoch: int = 100

    @property
    def run(self) -> Any:
        return SimpleNamespace(key=self.key)

    @property
    def recipe(self) -> Any:
        return SimpleNamespace(epochs=self.epochs, batch_size=64)


def lines(*moments: tuple[float, list[Standing]]) -> list[str | None]:
    pace = Pace()
    return [pace.line(standing, now) for now, standing in moments]  # type: ignore[arg-type]


def test_the_run_with_most_left_is_what_is_waited_for() -> None:
    found = lines(
        (0.0, [Standing("slow", 1), Standing("fast", 3)]),
        (59.0, [Standing("slow", 1, 50), Standing("fast", 3, 50)]),
        (60.0, [Standing("slow", 1, 50), Standing("fast", 3, 50)]),
        (180.0, [Standing("slow", 2, 30), Standing("fast", 10, 0, finished=True)]),
        (300.0, [Standing("slow", 2, 30)]),
        (400.0, []),
    )
    assert found == [
        None,
        None,
        "epoch 1/10, step 50/100, 53 images/s, about 19 min left",
        "epoch 2/10, step 30/100, 43 images/s, about 21 min left",
        "epoch 2/10, step 30/100, no step taken in 120 s",
        None,
    ]


def test_a_first_stage_is_named_and_slow_steps_have_a_rate() -> None:
    found = lines((0.0, [Standing("ft", -1)]), (600.0, [Standing("ft", -1, 3)]))
    assert found[1] == "first stage, step 3/100, 0.3 images/s, about 2 d 18 h left"


def test_the_live_display_moves_within_epochs() -> None:
    text = StringIO()
    live = Live(Console(file=text, force_terminal=True, width=120))
    run = SimpleNamespace(key="a", slug="digits-a", seed=0)
    recipe = SimpleNamespace(epochs=10)
    trainee: Any = SimpleNamespace(run=run, recipe=recipe, epoch=4, step=50, steps_per_epoch=100)
    live.started("x", [trainee])
    live.step([trainee])
    (task,) = live._progress.tasks
    assert (task.completed, task.total) == (3.5, 10)
    live.close()
