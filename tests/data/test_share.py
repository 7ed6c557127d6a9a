"""Each process reads its replicas' images alone: together they are what one process would read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.base.companion import Companion
from benchmark.base.errors import UserError
from benchmark.base.share import Shard
from benchmark.data.batches import Batch, Batches, cut
from benchmark.data.mixing import draw_mix
from benchmark.data.open import open_batches
from benchmark.data.order import BatchPlan
from benchmark.table.recipe import Mixing

SETTINGS: dict[str, Any] = {"seed": 0, "batch_size": 24, "augmentation": "shift1"}  # 100 images
MIX = Mixing(mixup=0.8, cutmix=1.0, partner="previous")


def opened(digits: Path, processes: int, **more: Any) -> list[Batches]:
    shares = [Shard(4, process, processes) for process in range(processes)]
    return [open_batches("digits", digits, **(SETTINGS | more), share=share) for share in shares]


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("size", [24, 25, 9])
def test_every_position_belongs_to_one_replica(replicas: int, size: int) -> None:
    for processes in range(1, replicas + 1):
        shares = [Shard(replicas, process, processes) for process in range(processes)]
        assert [r for share in shares for r in share.own] == list(range(replicas))
        assert all(len(share.own) for share in shares)
        parts = [part for share in shares for part in share.parts(size)]
        assert sorted(p for part in parts for p in part) == list(range(size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        # As torch's DistributedSampler deals them.
        assert [list(part) for part in parts] == [
            list(range(size))[r::replicas] for r in range(replicas)
        ]


@pytest.mark.parametrize("mix", [None, MIX])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_share_what_one_would_read(
    digits: Path, processes: int, mix: Mixing | None
) -> None:
    alone = opened(digits, 1, mix=mix)[0].epoch(2, 1)
    together = [batches.epoch(2, 1) for batches in opened(digits, processes, mix=mix)]
    sizes = []
    for whole, *own in zip(alone, *together, strict=True):
        sizes.append(whole.whole)
        assert all(batch.whole == whole.whole for batch in own)
        for name in ("images", "labels", "indices", *(["targets"] if mix else ["variants"])):
            parts = torch.cat([getattr(batch, name) for batch in own])
            assert torch.equal(parts, getattr(whole, name)), name
    assert sizes == [24, 24, 24, 4]


def test_an_image_does_not_depend_on_the_replicas(digits: Path) -> None:
    uncut = open_batches("digits", digits, **SETTINGS)
    (shared,) = opened(digits, 1)
    for plain, parts in zip(uncut.epoch(1), shared.epoch(1), strict=True):
        order = plain.indices.argsort(), parts.indices.argsort()
        assert torch.equal(plain.images[order[0]], parts.images[order[1]])
        replicas = cut(parts, Shard(4))
        for replica, part in enumerate(replicas):
            assert torch.equal(part.indices, plain.indices[replica::4])


def test_each_replica_mixes_its_own_part_by_its_own_draws(digits: Path) -> None:
    (plain,), (mixed,) = opened(digits, 1), opened(digits, 1, mix=MIX)
    for step, (raw, batch) in enumerate(zip(plain.epoch(1), mixed.epoch(1), strict=True)):
        lambdas = set()
        for replica, (own, part) in enumerate(
            zip(cut(raw, Shard(4)), cut(batch, Shard(4)), strict=True)
        ):
            assert part.targets is not None
            share = draw_mix(MIX, 0, 1, 4 * step + replica, 8, 8).share
            lambdas.add(share)
            target = torch.zeros(len(own.labels), 10)
            target.scatter_add_(1, own.labels[:, None], torch.full_like(target, share))
            other = own.labels.roll(1)[:, None]
            target.scatter_add_(1, other, torch.full_like(target, 1 - share))
            torch.testing.assert_close(part.targets, target, rtol=0, atol=1e-6)
        assert len(lambdas) > 1


@pytest.mark.parametrize("kind", ["view", "class", "previous"])
def test_further_images_are_shared_alike(digits: Path, kind: Any) -> None:
    which = Companion(kind, 1)
    for epoch, step in ((1, 0), (1, 2), (2, 0)):
        (whole,) = (b.companion(which, epoch, step) for b in opened(digits, 1))
        own = [b.companion(which, epoch, step) for b in opened(digits, 2)]
        assert torch.equal(torch.cat([b.images for b in own]), whole.images)
        assert own[0].whole == whole.whole == (0 if (kind, epoch, step) == ("previous", 1, 0)
            else 4 if (kind, epoch, step) == ("previous", 2, 0) else 24)  # fmt: skip


@pytest.mark.parametrize("processes", [2, 3])
def test_an_evaluation_sees_every_image_once(digits: Path, processes: int) -> None:
    everything = opened(digits, processes, holdout=10)
    shares = [Shard(4, process, processes) for process in range(processes)]
    for split in ("test", "validation"):
        found: list[Batch] = []
        for batches, share in zip(everything, shares, strict=True):
            found += getattr(batches, split)(7, share)
        indices = torch.cat([batch.indices for batch in found])
        (whole,) = (torch.cat([b.indices for b in getattr(everything[0], split)(500)]),)
        assert torch.equal(indices.sort().values, whole)


def test_what_cannot_be_cut() -> None:
    with pytest.raises(UserError, match=r"5 replicas do not divide a batch of 24"):
        BatchPlan(100, 0, 24, share=Shard(5))
    with pytest.raises(UserError, match=r"the last batch of an epoch has 4 images for 6 replicas"):
        BatchPlan(100, 0, 24, share=Shard(6))
    assert BatchPlan(100, 0, 24, drop_last=True, share=Shard(6)).steps_per_epoch == 4
