"""A step's further images are a function of (seed, epoch, index, number)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.base.companion import Companion
from benchmark.base.errors import UserError
from benchmark.data.batches import Batches
from benchmark.data.companions import no_companions
from benchmark.data.open import open_batches


def opened(digits: Path, batch_size: int = 20, seed: int = 3, holdout: int = 20) -> Batches:
    return open_batches(
        "digits", digits, seed=seed, batch_size=batch_size, augmentation="shift1", holdout=holdout
    )


def by_index(batches: Batches, which: Companion, epoch: int) -> dict[int, torch.Tensor]:
    """Return the epoch's further images by the index of the image that they accompany."""
    found = {}
    for step, batch in enumerate(batches.epoch(epoch)):
        images = batches.companion(which, epoch, step).images
        found |= dict(zip(batch.indices.tolist(), images, strict=True))
    return found


@pytest.mark.parametrize("which", [Companion("view", 1), Companion("view", 2), Companion("class")])
def test_neither_the_batch_nor_its_place_moves_a_pixel(digits: Path, which: Companion) -> None:
    ours = by_index(opened(digits), which, 2)
    theirs = by_index(opened(digits, batch_size=7), which, 2)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(image, theirs[index]) for index, image in ours.items())
    others = by_index(opened(digits, seed=4), which, 2)
    assert any(not torch.equal(image, others[index]) for index, image in ours.items())


def test_view_0_is_the_batch_and_the_others_differ(digits: Path) -> None:
    batches = opened(digits)
    batch = next(batches.epoch(1))
    views = [batches.companion(Companion("view", n), 1, 0) for n in range(3)]
    assert torch.equal(views[0].images, batch.images)
    for view in views:
        assert torch.equal(view.indices, batch.indices)
        assert torch.equal(view.labels, batch.labels)
    assert not torch.equal(views[1].images, views[0].images)
    assert not torch.equal(views[2].images, views[1].images)


def test_partners_are_of_the_class_and_are_trained_on(digits: Path) -> None:
    batches = opened(digits, batch_size=80)
    trained = set(torch.cat([batch.indices for batch in batches.epoch(1)]).tolist())
    batch = next(batches.epoch(1))
    first = batches.companion(Companion("class", 0), 1, 0)
    second = batches.companion(Companion("class", 1), 1, 0)
    for partner in (first, second):
        assert torch.equal(partner.labels, batch.labels)
        assert set(partner.indices.tolist()) <= trained
    assert not torch.equal(first.indices, second.indices)
    assert not torch.equal(first.indices, batch.indices)
    again = batches.companion(Companion("class", 0), 2, 0)
    assert not torch.equal(first.indices, again.indices)


def test_the_batch_before_is_found_across_epochs(digits: Path) -> None:
    batches = opened(digits)
    epochs = {epoch: list(batches.epoch(epoch)) for epoch in (1, 2)}
    assert len(batches.companion(Companion("previous", 0), 1, 0).indices) == 0
    for epoch, step, (at, number) in ((1, 1, (1, 0)), (2, 0, (1, -1)), (2, 2, (2, 1))):
        before = batches.companion(Companion("previous", 0), epoch, step)
        assert torch.equal(before.images, epochs[at][number].images)
        second = batches.companion(Companion("previous", 1), epoch, step)
        place = number if number >= 0 else len(epochs[at]) - 1
        view = batches.companion(Companion("view", 1), at, place)
        assert torch.equal(second.images, view.images)


def test_readers_without_them_say_so() -> None:
    error = no_companions("ffcv")
    assert isinstance(error, UserError)
    assert "use the resident reader" in str(error)
