"""What the tests of kept answers count with."""

from __future__ import annotations

from pathlib import Path

from benchmark.run.identity import Run
from benchmark.train.answers import Answers

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


def shown(run: Run, digits: Path) -> list[list[tuple[int, int]]]:
    """The (image, variant) of every picture that a run is shown of one teacher, a list a batch."""
    from benchmark.data.open import open_batches

    recipe = run.recipe
    batches = open_batches(
        "digits",
        digits,
        seed=run.seed,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        drop_last=recipe.drop_last,
        repeats=recipe.repeats,
    )
    found = []
    for epoch in range(1, recipe.epochs + 1):
        for batch in batches.epoch(epoch):
            assert batch.variants is not None
            found.append(list(zip(batch.indices.tolist(), batch.variants.tolist(), strict=True)))
    return found


def distinct(run: Run, digits: Path) -> int:
    """How many different pictures a run is shown of one teacher."""
    return len({row for rows in shown(run, digits) for row in rows})
