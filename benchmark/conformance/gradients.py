"""Are the losses finite, and do gradients go where they belong, and nowhere else?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmark.conformance.findings import CheckFailedError, listed
from benchmark.conformance.lab import Lab
from benchmark.conformance.one_step import (
    leaves,
    main_stage,
    make_step,
    named,
    observe,
    terms_of,
    total,
)
from benchmark.methods.base import Method
from benchmark.methods.seen import NO_FEATURES
from benchmark.models.features import Features, Model
from benchmark.run.identity import MethodRef
from benchmark.train.losses import AnyMethod


def finite_losses(lab: Lab, ref: MethodRef) -> str:
    """Every term is a finite scalar, at the published weights."""
    trainee = main_stage(lab, ref)
    seen = observe(lab, trainee)
    terms, logits = terms_of(lab, trainee, seen)
    shape = (len(seen.batch.labels), lab.images.num_classes)
    if trainee.uses_images and tuple(logits.shape) != shape:
        raise CheckFailedError(f"predicted logits have shape {tuple(logits.shape)}, not {shape}")
    for name, value in terms.items():
        if value.shape != ():
            raise CheckFailedError(f"term {name} has shape {tuple(value.shape)}: expected a scalar")
        if not value.isfinite():
            raise CheckFailedError(f"term {name} is {value.item()}")
    return ", ".join(f"{name} {value.item():.4g}" for name, value in terms.items())


def gradients_where_they_belong(lab: Lab, ref: MethodRef) -> str:
    """The student and every part of the method get gradients, the teacher gets none."""
    trainee = main_stage(lab, ref)
    method = trainee.objective.methods[0]
    seen = observe(lab, trainee)
    seen = seen._replace(student=leaves(seen.student))
    student = trainee.student.model
    teachers = [n.model for n in (trainee.teacher, trainee.private_teacher) if n]
    students = {id(p) for p in student.parameters()}
    own = {n: p for n, p in method.named_parameters() if p.requires_grad and id(p) not in students}
    for teacher in teachers:
        teacher.requires_grad_(True)
    try:
        terms, _ = terms_of(lab, trainee, seen)
        if trainee.uses_images:  # else it runs the teacher itself, which is frozen
            _none_into_teachers(terms, teachers)
        # The graph is needed twice: with the cross-entropy and without.
        without_labels = {name: value for name, value in terms.items() if name != "ce"}
        everything = _gradients(total(terms), own)
        reached = _reached(without_labels, seen.student, student)
    finally:
        for teacher in teachers:
            teacher.requires_grad_(False)
    missing = [name for name, gradient in everything.items() if gradient is None]
    if missing:
        raise CheckFailedError(
            f"no gradient reaches {listed(missing)} of the method's own parts, which weight decay"
            " then shrinks; freeze them or leave them out"
        )
    _finite(everything)
    if not reached and not (method.prepare_epochs or _changes_later(method)):
        raise CheckFailedError("its loss has no gradient into the student")
    numbers = sum(p.numel() for p in own.values())
    into = f"reaches {listed(reached)}" if reached else "nothing after the first stage"
    return f"{into}; {numbers:,} numbers of its own trained; none into the teacher"


def _changes_later(method: AnyMethod) -> bool:
    """Whether an epoch's end may give it what it says nothing about before."""
    return type(method).end_epoch is not Method.end_epoch


def first_stage(lab: Lab, ref: MethodRef) -> str:
    """What the first stage trains gets finite gradients, its own parts all of them."""
    trainee = lab.start(lab.run([ref]))
    method = trainee.objective.methods[0]
    if not method.prepare_epochs:
        return "has none"
    parameters = list(method.prepare_parameters(trainee.student.model))
    trainee.student.model.train()
    trainee.methods.train()
    seen = observe(lab, trainee)
    student = trainee.student.model.features(seen.batch.images)
    seen = seen._replace(student=student if method.prepare_student else NO_FEATURES)
    if method.private_teacher:
        seen = seen._replace(teacher=seen.private)
    loss = method.prepare_loss(make_step(lab, trainee, seen))
    if not loss.isfinite():
        raise CheckFailedError(f"its loss is {loss.item()}")
    names = {id(p): name for name, p in method.named_parameters()}
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    gradients = {
        names.get(id(p), f"student {i}"): g
        for i, (p, g) in enumerate(zip(parameters, found, strict=True))
    }
    missing = [name for name in names.values() if name in gradients and gradients[name] is None]
    if missing:
        raise CheckFailedError(f"no gradient reaches {listed(missing)}")
    if all(gradient is None for gradient in gradients.values()):
        raise CheckFailedError("its loss reaches nothing that it trains")
    _finite(gradients)
    own = sum(p.numel() for p in parameters if id(p) in names)
    others = sum(1 for p in parameters if id(p) not in names)
    return f"loss {loss.item():.4g}, trains {own:,} numbers of its own, {others} student tensors"


def _gradients(loss: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    if not targets or not loss.requires_grad:
        return dict.fromkeys(targets)
    found = torch.autograd.grad(loss, list(targets.values()), retain_graph=True, allow_unused=True)
    return dict(zip(targets, found, strict=True))


def _reached(terms: dict[str, Tensor], features: Features, student: Model) -> list[str]:
    """Return what of the student the method's own terms move: its features, or weights directly."""
    if not terms:
        return []
    targets = named(features) | {f"the student's {k}": p for k, p in student.named_parameters()}
    found = _gradients(total(terms), targets)
    _finite(found)
    return [name for name, gradient in found.items() if gradient is not None and gradient.any()]


def _none_into_teachers(terms: dict[str, Tensor], teachers: list[Model]) -> None:
    loss = total(terms)
    for teacher in teachers:
        targets = dict(teacher.named_parameters())
        reached = [name for name, g in _gradients(loss, targets).items() if g is not None]
        if reached:
            raise CheckFailedError(
                f"a gradient reaches the teacher's {listed(reached)}: detach what is read of it"
            )


def _finite(gradients: Mapping[str, Tensor | None]) -> None:
    for name, gradient in gradients.items():
        if gradient is not None and not gradient.isfinite().all():
            raise CheckFailedError(f"the gradient into {name} is not finite")
