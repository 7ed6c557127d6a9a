"""Normalising by a table gives the bits and the memory format of normalising step by step."""

from __future__ import annotations

import pytest
import torch

from benchmark.data.augment import Normalise
from benchmark.data.datasets import dataset_info
from benchmark.data.normalise_ops import TableNormalise


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_bits_are_those_of_the_steps(channels_last: bool) -> None:
    info = dataset_info("imagenette")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 16, 24, 3), generator=generator, dtype=torch.uint8)
    images[0, :, :16] = torch.arange(256, dtype=torch.uint8).view(16, 16, 1)  # every byte
    expected = Normalise(info, 24, torch.device("cpu"), channels_last)(images)
    found = TableNormalise(info, channels_last)(images)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    assert found.dtype == torch.float32


def test_a_view_of_a_batch_is_read_as_it_stands() -> None:
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    normalise = TableNormalise(dataset_info("imagenette"), channels_last=False)
    assert torch.equal(normalise(images[::2]), normalise(images)[::2])
