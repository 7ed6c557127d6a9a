"""The loop that the authors of DKD published, as one of the loops that are timed in turn.

From a checkout of mdistiller at commit a08d46f, of which nothing is copied here and nothing is
changed but ``.cuda()``, which returns what it was asked of, and the check of CIFAR-100's md5, which
a subset does not pass. It needs yacs, tensorboardX and tqdm. KD by the defaults of its
``configs/cifar100``; its teacher has initial weights.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmark.base.torchvision_shim import make_torchvision_importable
from perf.interleaved import Pause

make_torchvision_importable()

# Its names of networks, where they differ from ours.
NAMES = {"resnet50": "ResNet50", "mobilenetv2": "MobileNetV2"}


class _EndedError(Exception):
    """The measurement is over."""


class _Paused:
    """A loader that pauses after each step that was taken on its batches."""

    def __init__(self, loader: Any, pause: Pause) -> None:
        self._loader, self._pause = loader, pause

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            if not self._pause():
                raise _EndedError


def train_reference(checkout: Path, folder: Path, teacher: str, student: str, pause: Pause) -> None:
    """Train KD as the checkout does, on ``folder`` (cifar-100-python), until ``pause`` ends it."""
    sys.path.insert(0, str(checkout.resolve()))
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[assignment,method-assign]
    nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[assignment,method-assign]
    from mdistiller.dataset import cifar100, get_dataset
    from mdistiller.distillers import distiller_dict
    from mdistiller.engine import trainer_dict
    from mdistiller.engine.cfg import CFG
    from mdistiller.models import cifar_model_dict
    from torchvision.datasets import CIFAR100, cifar

    cifar100.get_data_folder = lambda: str(folder.resolve().parent)
    cifar.check_integrity = lambda *_: True
    CIFAR100._check_integrity = lambda _: True
    with tempfile.TemporaryDirectory() as logs, contextlib.redirect_stderr(io.StringIO()):
        CFG.merge_from_list(["DISTILLER.TYPE", "KD", "LOG.WANDB", False, "LOG.PREFIX", logs])
        with contextlib.redirect_stdout(io.StringIO()):
            train_loader, test_loader, _, classes = get_dataset(CFG)
        networks = [
            cifar_model_dict[NAMES.get(name, name)][0](num_classes=classes)
            for name in (student, teacher)
        ]
        distiller = nn.DataParallel(distiller_dict["KD"](*networks, CFG))
        paused = _Paused(train_loader, pause)
        trainer = trainer_dict["base"]("timed", distiller, paused, test_loader, CFG)
        with contextlib.suppress(_EndedError):
            while True:
                trainer.train_epoch(1)
