from __future__ import annotations

import hashlib

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data.order import BatchPlan, slices


def test_an_epoch_visits_everything_once_in_its_own_order() -> None:
    plan = BatchPlan(num_train=1000, seed=0, batch_size=64)
    first, second, before = plan.order(0), plan.order(1), plan.order(-1)
    for order in (first, second, before):
        assert sorted(order.tolist()) == list(range(1000))
    assert (first != second).any()
    assert (first != before).any()
    assert (first != BatchPlan(num_train=1000, seed=1, batch_size=64).order(0)).any()
    assert (first == BatchPlan(num_train=1000, seed=0, batch_size=7).order(0)).all()


def test_the_order_never_changes() -> None:
    # Every run's numbers rest on it.
    order = BatchPlan(num_train=50_000, seed=3, batch_size=64).order(7)
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] == "25d5d288580e219b"


def test_held_out_images_are_never_trained_on_and_no_seed_moves_them() -> None:
    plan = BatchPlan(num_train=1000, seed=0, batch_size=64, holdout=100)
    other = BatchPlan(num_train=1000, seed=9, batch_size=32, holdout=100)
    assert len(plan.validation_indices) == 100
    assert (plan.validation_indices == other.validation_indices).all()
    assert not set(plan.order(4).tolist()) & set(plan.validation_indices.tolist())
    assert len(plan.order(4)) == 900
    smaller = BatchPlan(num_train=1000, seed=0, batch_size=64, holdout=50)
    assert set(smaller.validation_indices.tolist()) < set(plan.validation_indices.tolist())


def test_no_holdout_is_no_validation() -> None:
    plan = BatchPlan(num_train=10, seed=0, batch_size=4)
    assert len(plan.validation_indices) == 0
    assert plan.train_indices.tolist() == list(range(10))


@pytest.mark.parametrize(("drop_last", "steps", "seen"), [(False, 3, 10), (True, 2, 8)])
def test_incomplete_batches(drop_last: bool, steps: int, seen: int) -> None:
    plan = BatchPlan(num_train=10, seed=0, batch_size=4, drop_last=drop_last)
    assert plan.steps_per_epoch == steps
    assert len(plan.order(0)) == seen
    assert len(list(slices(seen, 4))) == steps


def test_a_batch_larger_than_the_data() -> None:
    assert BatchPlan(num_train=10, seed=0, batch_size=64).steps_per_epoch == 1
    with pytest.raises(UserError, match="batch of 64 is larger than the 8 training images"):
        BatchPlan(num_train=10, seed=0, batch_size=64, drop_last=True, holdout=2)


@pytest.mark.parametrize("holdout", [-1, 10, 11])
def test_impossible_holdouts(holdout: int) -> None:
    with pytest.raises(UserError, match=f"cannot hold out {holdout} of 10"):
        BatchPlan(num_train=10, seed=0, batch_size=4, holdout=holdout)


def test_slices_from_a_later_step() -> None:
    assert [(s.start, s.stop) for s in slices(10, 4, start=1)] == [(4, 8), (8, 10)]
    assert list(slices(10, 4, start=3)) == []
    assert np.arange(10)[next(slices(10, 4))].tolist() == [0, 1, 2, 3]
