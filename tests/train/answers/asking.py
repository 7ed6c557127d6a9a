"""What the tests of kept answers count with."""

from __future__ import annotations

from pathlib import Path

from benchmark.run.identity import Run
from benchmark.train.answers import Answers
from tests.helpers import numbers, train

# Enough epochs for most images to come by in a variant that was seen: 9 shifts, 100 images.
EPOCHS = ("recipe.epochs=8", "recipe.eval_every=8", "recipe.schedule.milestones=[6]")
SIZE, BATCHES = 20, 5  # of a batch, and in an epoch
KD = ["column=wrn_16_2-resnet8", "row=KD"]
LOGITS = ["column=wrn_16_2-resnet8"]


class Asked:
    """Counts what all teachers of a test are asked."""

    def __init__(self) -> None:
        self.all: list[Answers] = []

    @property
    def images(self) -> int:
        return sum(found.asked for found in self.all)


def students(runs: list[Run], seed: int | None = None) -> list[Run]:
    return [run for run in runs if run.teacher and seed in (None, run.seed)]


def distinct(run: Run, digits: Path) -> int:
    """How many different images a run is shown of one teacher."""
    from benchmark.data.open import open_batches

    recipe = run.recipe
    batches = open_batches(
        "digits",
        digits,
        seed=run.seed,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
    )
    seen = set()
    for epoch in range(1, recipe.epochs + 1):
        for batch in batches.epoch(epoch):
            assert batch.variants is not None
            seen |= set(zip(batch.indices.tolist(), batch.variants.tolist(), strict=True))
    return len(seen)


def test_each_question_is_asked_once(
    alone: tuple[Path, list[Run]],
    runs_dir: Path,
    digits: Path,
    asked: Asked,
    locks: list[int],
) -> None:
    reference, runs = alone
    (run,) = students(runs, 0)
    assert train([run], digits, runs_dir).endings == {run.key: "done"}
    assert numbers(runs_dir, run) == numbers(reference, run)
    expected = distinct(run, digits)
    assert asked.images == expected < run.recipe.epochs * 100
    # A lock for each question at most, and one call that gives back those of a batch.
    assert len(locks) <= expected + run.recipe.epochs * BATCHES
    locks.clear()
    # Again, all of it from the store.
    (runs_dir / run.key).rename(runs_dir / ".before")
    train([run], digits, runs_dir)
    assert numbers(runs_dir, run) == numbers(reference, run)
    assert asked.images == expected
    assert len(locks) <= SIZE + 1  # those of the proof
