from __future__ import annotations

import numpy as np
import torch

from benchmark.data.rng import below, below_tensor, draws, draws_tensor, stream_key, uniform

INDICES = np.array([0, 1, 2, 49_999, 2**40], np.int64)


def test_draws_are_splitmix64() -> None:
    # The first three outputs of the published generator from state 0.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert draws(0, np.arange(3)).tolist() == expected


def test_torch_gives_the_same_bits() -> None:
    for key in (0, 1, 2**63, 2**64 - 1, stream_key(-3, -7, "order")):
        bits = draws(key, INDICES)
        tensor = draws_tensor(key, torch.from_numpy(INDICES))
        assert tensor.numpy().view(np.uint64).tolist() == bits.tolist()
        for shift in (0, 16, 32, 48):
            mine = below_tensor(tensor, 9, shift).tolist()
            assert mine == below(bits, 9, shift).tolist()


def test_keys_never_change() -> None:
    # A changed key changes every run's numbers: raise the versions of all that draw.
    assert stream_key(0, 0, "order") == 0x86339C86C1194D1B
    assert stream_key(5, -2, "crop_flip") == 0xD043C81B0A0D9FD6
    assert stream_key(0, 0, "resized_crop", 3) == 0xDA189731ED950A51


def test_every_part_of_a_key_counts() -> None:
    keys = {
        stream_key(seed, epoch, purpose, draw)
        for seed in (-1, 0, 1)
        for epoch in (-1, 0, 1)
        for purpose in ("order", "crop_flip")
        for draw in (0, 1)
    }
    assert len(keys) == 36


def test_values_are_uniform() -> None:
    # 90,000 draws: each of nine offsets within five standard deviations (94 each) of 10,000.
    bits = draws(stream_key(0, 1, "crop_flip"), np.arange(90_000))
    for shift in (0, 16, 32):
        counts = np.bincount(below(bits, 9, shift), minlength=9)
        assert len(counts) == 9
        assert abs(counts - 10_000).max() < 470
    values = uniform(bits)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.005
