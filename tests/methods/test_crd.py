"""CRD's negatives (which samples, how uniform) and its memories."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods import crd
from benchmark.methods._negatives import Negatives


def z_score(counts: Tensor, expected: float, classes: int) -> float:
    """Return how many deviations a chi-square statistic over ``classes`` cells is off."""
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    return (statistic - (classes - 1)) / math.sqrt(2 * (classes - 1))


def cifar_labels() -> Tensor:
    return torch.arange(50_000) * 7919 % 100


def test_negatives_of_a_full_batch() -> None:
    """At CIFAR-100's size: the sample first, then different samples of other classes."""
    labels = cifar_labels()
    indices = torch.arange(16) * 3001
    chosen = Negatives(labels, 16384, seed=0)(1, indices)
    assert chosen.shape == (16, 16385)
    assert torch.equal(chosen[:, 0], indices)
    for index, row in zip(indices, chosen, strict=True):
        assert len(row.unique()) == len(row)
        assert row.min() >= 0
        assert row.max() < 50_000
        assert not (labels[row[1:]] == labels[index]).any()


def test_negatives_depend_on_seed_epoch_and_index_alone() -> None:
    labels = torch.arange(600) % 7
    draw = Negatives(labels, 100, seed=3)
    indices = torch.tensor([5, 77, 300, 5])
    together = draw(4, indices)
    assert torch.equal(together[0], together[3])
    for row, index in zip(together, indices, strict=True):
        assert torch.equal(draw(4, index[None])[0], row)
    for other in (draw(5, indices), Negatives(labels, 100, seed=4)(4, indices)):
        assert not torch.equal(other[:, 1:], together[:, 1:])
    assert not torch.equal(together[0, 1:], together[1, 1:])


def test_every_subset_of_negatives_is_equally_likely() -> None:
    """A hundred samples with nine others, three of which are drawn: 84 subsets."""
    labels = torch.tensor([1, 2, 2, 1, 2, 2, 2, 1, 2] + [0] * 100)
    draw = Negatives(labels, 3, seed=0)
    assert not draw.replacement
    chosen = torch.cat([draw(epoch, torch.arange(9, 109))[:, 1:] for epoch in range(80)])
    codes = [sum(1 << i for i in subset) for subset in itertools.combinations(range(9), 3)]
    found = (1 << chosen).sum(1)
    counts = torch.stack([(found == code).sum() for code in codes])
    assert counts.sum() == len(chosen)
    assert abs(z_score(counts.double(), len(chosen) / 84, 84)) < 4
    # The order of the negatives is uniform as well: each stands first as often.
    firsts = torch.bincount(chosen[:, 0], minlength=9)
    assert abs(z_score(firsts.double(), len(chosen) / 9, 9)) < 4


def test_inclusion_pairs_and_overlap_are_those_of_independent_uniform_draws() -> None:
    """300 of 1,000 others, for 400 samples in each of two epochs."""
    draw = Negatives(torch.arange(3).repeat_interleave(500), 300, seed=1)
    number, others, indices = 300, 1000, torch.arange(400)
    masks = torch.zeros(800, 1500)
    for epoch in (1, 2):
        masks[(epoch - 1) * 400 : epoch * 400].scatter_(1, draw(epoch, indices)[:, 1:], 1.0)
    masks = masks[:, 500:]
    assert (masks.sum(1) == number).all()
    count, share = len(masks), number / others
    spread = count * share * (1 - share)
    statistic = ((masks.sum(0) - count * share) ** 2 / spread).sum().item()
    assert abs(statistic - (others - 1)) / math.sqrt(2 * (others - 1)) < 4
    variance = number * share * (1 - share) * (others - number) / (others - 1)
    for first, second in ((masks[0::2], masks[1::2]), (masks[:400], masks[400:])):
        overlap = (first * second).sum(1)  # of neighbours, then of two epochs
        assert abs(overlap.mean() - number * share) < 4 * math.sqrt(variance / len(overlap))
        assert 0.7 < overlap.var() / variance < 1.4
    pair_share = number * (number - 1) / (others * (others - 1))
    for distance in (1, 2, 16, 255, 512):
        both = (masks[:, distance:] * masks[:, :-distance]).mean(1)
        assert abs(both.mean() - pair_share) < 4 * both.std() / math.sqrt(count)


def test_too_few_others_are_drawn_with_replacement() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    draw = Negatives(labels, 400, seed=0)
    assert draw.replacement
    chosen = draw(1, torch.arange(6))
    assert torch.equal(draw(1, torch.tensor([4]))[0], chosen[4])
    for index, row in enumerate(chosen):
        others = row[1:].bincount(minlength=6)[labels != labels[index]]
        assert others.sum() == 400
        assert abs(z_score(others.double(), 400 / len(others), len(others))) < 4


def test_one_class_has_no_negatives() -> None:
    with pytest.raises(UserError, match="at least two classes"):
        Negatives(torch.ones(9, dtype=torch.int64), 3, seed=0)


def test_absent_classes_do_no_harm() -> None:
    draw = Negatives(torch.tensor([5, 5, 9, 9, 9, 9]), 1, seed=0)
    assert set(draw(1, torch.zeros(1, dtype=torch.int64))[0, 1:].tolist()) <= {2, 3, 4, 5}


def test_the_last_of_equal_samples_is_remembered() -> None:
    memory = torch.eye(4, 3)
    before = memory.clone()
    anchors = torch.nn.functional.normalize(torch.arange(1.0, 10.0).view(3, 3), dim=1)
    crd.refresh(memory, torch.tensor([2, 0, 2]), anchors, momentum=0.5)
    for place, anchor in ((0, anchors[1]), (2, anchors[2])):
        moved = 0.5 * before[place] + 0.5 * anchor
        torch.testing.assert_close(memory[place], moved / moved.norm())
    assert torch.equal(memory[[1, 3]], before[[1, 3]])


def test_gradient_is_that_of_the_memory_before_its_update() -> None:
    torch.manual_seed(0)
    bank = crd.Bank(12, 4).double()
    anchors = [crd.unit(torch.randn(3, 4, dtype=torch.float64)).requires_grad_() for _ in "st"]
    chosen = torch.arange(12).view(3, 4)
    memories = bank.memory_t.clone(), bank.memory_s.clone()
    loss = 0.8 * bank.contrast(*anchors, chosen, temperature=0.07)
    bank.refresh(*anchors, chosen[:, 0], momentum=0.5)
    found = torch.autograd.grad(loss, anchors)
    constants = bank.log_z_s, bank.log_z_t
    plain = 0.8 * sum(
        crd.nce_loss(crd.similarities(a, m, chosen, 0.07), z, 12)
        for a, m, z in zip(anchors, memories, constants, strict=True)
    )
    assert isinstance(plain, Tensor)
    torch.testing.assert_close(loss, plain)
    for ours, expected in zip(found, torch.autograd.grad(plain, anchors), strict=True):
        torch.testing.assert_close(ours, expected)
    assert not torch.equal(bank.memory_s, memories[1])


def test_partition_constants_are_those_of_the_first_batch_and_survive_a_checkpoint() -> None:
    torch.manual_seed(0)
    bank, again = crd.Bank(12, 4), crd.Bank(12, 4)
    anchors = [crd.unit(torch.randn(3, 4)) for _ in "st"]
    chosen = torch.arange(12).view(3, 4)
    bank.contrast(*anchors, chosen, temperature=0.07)
    first = bank.log_z_s.clone()
    again.load_state_dict(bank.state_dict())
    for resumed in (bank, again):
        resumed.contrast(anchors[1], anchors[0], chosen, temperature=0.07)
        assert torch.equal(resumed.log_z_s, first)


def test_scores_too_large_to_exponentiate_stay_finite() -> None:
    bank = crd.Bank(12, 4)
    anchors = [crd.unit(torch.randn(3, 4)).requires_grad_() for _ in "st"]
    bank.memory_t.copy_(bank.memory_s)
    loss = bank.contrast(*anchors, torch.arange(12).view(3, 4), temperature=0.001)
    gradients = torch.autograd.grad(loss, anchors)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
