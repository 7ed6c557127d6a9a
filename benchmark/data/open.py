"""Open a dataset for a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from benchmark.base.errors import UserError, unknown
from benchmark.base.share import WHOLE, Shard
from benchmark.data.augmentations import READERS, AugmentationInfo, Interpolation, check_reader
from benchmark.data.batches import Batches
from benchmark.data.datasets import DatasetInfo, dataset_info, require_dataset
from benchmark.data.ffcv_guard import kept_threads, require_ffcv
from benchmark.data.mixing import MixedBatches
from benchmark.data.order import BatchPlan
from benchmark.data.resident import ResidentBatches
from benchmark.data.sidecar import Sidecar
from benchmark.table.recipe import Mixing


def open_batches(
    dataset: str,
    data_dir: Path,
    *,
    reader: Literal["resident", "ffcv"] = "resident",
    seed: int,
    batch_size: int,
    augmentation: str | AugmentationInfo,
    drop_last: bool = False,
    holdout: int = 0,
    device: str | torch.device = "cpu",
    channels_last: bool = False,
    workers: int = 1,
    repeats: int = 1,
    crop_size: int | None = None,
    test_interpolation: Interpolation | None = None,
    mix: Mixing | None = None,
    label_smoothing: float = 0.0,
    share: Shard = WHOLE,
) -> Batches:
    """Return the batches of ``dataset`` for one run; both readers give the same bits.

    ``holdout`` training images are kept apart for validation; ``workers`` are threads of the
    ffcv reader and change nothing but its speed; ``repeats``, ``crop_size``,
    ``test_interpolation`` and ``mix`` are a recipe's, as is the ``label_smoothing`` of mixed
    targets. ``share``: which replicas' images this process reads.

    Raises UserError for unknown names, a dataset that is missing or damaged, a reader that cannot
    do what is asked, and batches larger than the training set where incomplete ones are dropped.
    """
    info = dataset_info(dataset, data_dir=data_dir)
    if reader not in READERS:
        raise unknown("reader", reader, READERS)
    if isinstance(augmentation, str):
        augmentation = check_reader(augmentation, reader)
    chosen = augmentation.changed(crop_size, test_interpolation)
    sidecar = require_dataset(dataset, data_dir)
    plan = BatchPlan(
        sidecar.splits["train"].num_samples, seed, batch_size, drop_last, holdout, repeats, share
    )
    target = torch.device(device)
    opened: Batches
    if reader == "resident":
        opened = ResidentBatches(info, sidecar, data_dir, plan, chosen, target, channels_last)
    else:
        opened = _ffcv(info, sidecar, data_dir, plan, chosen, target, channels_last, workers)
    return opened if mix is None else MixedBatches(opened, mix, seed, label_smoothing, share)


def _ffcv(
    info: DatasetInfo,
    sidecar: Sidecar,
    data_dir: Path,
    plan: BatchPlan,
    chosen: AugmentationInfo,
    target: torch.device,
    channels_last: bool,
    workers: int,
) -> Batches:
    require_ffcv()
    try:
        with kept_threads():  # importing ffcv takes seconds, too
            from benchmark.data.ffcv_loader import FfcvBatches
    except (ImportError, OSError) as error:
        raise UserError(f"ffcv is installed but cannot be imported: {error}") from error
    return FfcvBatches(info, sidecar, data_dir, plan, chosen, target, channels_last, workers)
