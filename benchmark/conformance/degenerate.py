"""What a method does with batches that real training meets now and then."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.conformance.compare import copied
from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.lab import Lab
from benchmark.conformance.one_step import (
    Observed,
    leaves,
    main_stage,
    mapped,
    named,
    observe,
    terms_of,
    total,
)
from benchmark.data.batches import Batch
from benchmark.run.identity import MethodRef

LARGE_LOGIT = 1e4


def _everywhere(seen: Observed, change: Callable[[Tensor], Tensor]) -> Observed:
    student = mapped(seen.student, change)
    teacher = None if seen.teacher is None else mapped(seen.teacher, change)
    private = None if seen.private is None else mapped(seen.private, change)
    return seen._replace(student=student, teacher=teacher, private=private)


def _chosen(batch: Batch, rows: Tensor) -> Batch:
    given = {name: t[rows] for name, t in batch._asdict().items() if t is not None}
    return batch._replace(**given)


def _rows(*rows: int) -> Callable[[Observed], Observed]:
    def change(seen: Observed) -> Observed:
        chosen = torch.tensor(rows)
        batch = _chosen(seen.batch, chosen)
        further = {which: _chosen(other, chosen) for which, other in seen.further.items()}
        return _everywhere(seen, lambda tensor: tensor[chosen])._replace(
            batch=batch, further=further
        )

    return change


def _constant(value: float) -> Callable[[Observed], Observed]:
    return lambda seen: _everywhere(seen, lambda tensor: torch.full_like(tensor, value))


def _large_logits(seen: Observed) -> Observed:
    """The student is sure of one class and the teacher of another."""

    def sure(logits: Tensor, place: int) -> Tensor:
        found = torch.full_like(logits, -LARGE_LOGIT)
        found[:, place] = LARGE_LOGIT
        return found

    student = seen.student._replace(logits=sure(seen.student.logits, 0))
    teachers = [t and t._replace(logits=sure(t.logits, 1)) for t in (seen.teacher, seen.private)]
    return seen._replace(student=student, teacher=teachers[0], private=teachers[1])


def _one_class(seen: Observed) -> Observed:
    return seen._replace(
        batch=seen.batch._replace(labels=seen.batch.labels[:1].expand(len(seen.batch.labels)))
    )


CASES: dict[str, Callable[[Observed], Observed]] = {
    "one image": _rows(0),
    "two images alike": _rows(0, 0, 1),
    "constant maps": _constant(0.5),
    "zero maps": _constant(0.0),
    "logits of 1e4": _large_logits,
    "one class alone": _one_class,
}


def degenerate_batches(lab: Lab, ref: MethodRef) -> str:
    """Loss and gradients are finite, or the method refuses the batch with a UserError."""
    trainee = main_stage(lab, ref)
    if not trainee.uses_images:
        return "it is given none"
    usual = observe(lab, trainee)
    before = copied(trainee.methods.state_dict())
    refused = []
    for name, change in CASES.items():
        trainee.methods.load_state_dict(before)
        seen = change(usual)
        seen = seen._replace(student=leaves(seen.student))
        try:
            terms, _ = terms_of(lab, trainee, seen)
        except UserError as error:
            refused.append(f"{name} refused ({error})")
            continue
        except Exception as error:
            raise CheckFailedError(f"{name}: {type(error).__name__}: {error}") from error
        _check(name, total(terms), [*named(seen.student).values(), *trainee.methods.parameters()])
    return "; ".join([f"{len(CASES) - len(refused)} of {len(CASES)} finite", *refused])


def _check(name: str, loss: Tensor, targets: list[Tensor]) -> None:
    if not loss.isfinite():
        raise CheckFailedError(f"{name}: the loss is {loss.item()}")
    if not loss.requires_grad:
        return
    wanted = [tensor for tensor in targets if tensor.requires_grad]
    for gradient in torch.autograd.grad(loss, wanted, allow_unused=True):
        if gradient is not None and not gradient.isfinite().all():
            raise CheckFailedError(f"{name}: a gradient is not finite")
