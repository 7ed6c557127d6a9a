"""One run's objective: cross-entropy on the labels plus the methods' terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.base.errors import UserError
from benchmark.methods.base import Method, Step
from benchmark.models.features import Features
from benchmark.train.optimiser import laid_out_like

AnyMethod = Method[Any]


class Part(NamedTuple):
    """One of several batches whose gradients make one optimiser step."""

    first: bool
    last: bool
    batches: int

    @classmethod
    def of(cls, step: int, steps: int, accumulate: int) -> Part:
        """Return the part that ``step`` of an epoch of ``steps`` is; the last step may have fewer.

        Batches of a step are averaged, as timm's training script does.
        """
        start = step - step % accumulate
        count = min(accumulate, steps - start)
        return cls(step == start, step == start + count - 1, count)


WHOLE = Part(True, True, 1)


class Objective:
    """Sums the terms of one row of methods and applies the one gradient rule it may have."""

    def __init__(
        self,
        methods: Sequence[AnyMethod],
        names: Sequence[str],
        ce_weight: float | None,
        predict: str | None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.methods = list(methods)
        self.names = _unique(names)
        self._smoothing = label_smoothing
        weights = {method.ce_weight for method in methods}
        if ce_weight is None and len(weights) > 1:
            raise UserError("the methods disagree on the cross-entropy's weight; set ce_weight")
        self.ce_weight = ce_weight if ce_weight is not None else (weights or {1.0}).pop()
        self._predicting = self._choose_prediction(names, predict)
        ruled = [i for i, method in enumerate(methods) if method.has_gradient_rule]
        if len(ruled) > 1:
            both = " and ".join(names[i] for i in ruled)
            raise UserError(f"{both} each replace the optimiser step; a row can have one of them")
        self._ruled = ruled[0] if ruled else None

    def check_accumulation(self, accumulate: int) -> None:
        """Raise UserError where gradients are to be accumulated but a rule steps by itself."""
        if accumulate > 1 and self._ruled is not None:
            raise UserError(
                f"{self.names[self._ruled]} replaces the optimiser step, so batches cannot be"
                " accumulated; set recipe.accumulate to 1"
            )

    def check_clipping(self, clip_norm: float | None) -> None:
        """Raise UserError where the recipe clips gradients but a gradient rule would not."""
        if clip_norm is None or self._ruled is None:
            return
        if not self.methods[self._ruled].clips_gradients:
            raise UserError(
                f"{self.names[self._ruled]} replaces the optimiser step, so the recipe's"
                f" clip_norm {clip_norm:g} would not apply; set recipe.clip_norm to null, or clip"
                " by an option of the method where it has one"
            )

    def _choose_prediction(self, names: Sequence[str], predict: str | None) -> int | None:
        own = [
            (name, index)
            for index, (name, method) in enumerate(zip(names, self.methods, strict=True))
            if type(method).predict is not Method.predict
        ]
        chosen = [index for name, index in own if predict in (None, name)]
        if len(chosen) > 1:
            raise UserError(
                f"{' and '.join(n for n, _ in own)} each bring their own prediction; choose one"
            )
        return chosen[0] if chosen else None

    def predict(self, student: Features, methods: Sequence[AnyMethod] | None = None) -> Tensor:
        """Return the logits [B, K] that are trained on the labels and evaluated.

        ``methods`` stand in for the row's own: their averages, say.
        """
        if self._predicting is None:
            return student.logits
        return (self.methods if methods is None else methods)[self._predicting].predict(student)

    def _cross_entropy(self, logits: Tensor, step: Step) -> Tensor:
        if step.targets is not None:  # smoothed already
            return F.cross_entropy(logits, step.targets)
        return F.cross_entropy(logits, step.labels, label_smoothing=self._smoothing)

    def terms(
        self, step: Step, private: Features | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted terms by name (``ce`` first), and the predicted logits.

        A method's single term bears the method's name, named ones ``method.name``. Methods
        with a private teacher see ``private`` as the teacher's features.
        """
        logits = self.predict(step.student)
        found: dict[str, Tensor] = {}
        if self.ce_weight != 0:
            found["ce"] = self.ce_weight * self._cross_entropy(logits, step)
        for name, method in zip(self.names, self.methods, strict=True):
            seen = step._replace(teacher=private) if method.private_teacher else step
            loss = method.loss(seen)
            parts = {"": loss} if isinstance(loss, Tensor) else loss
            found.update({f"{name}.{k}" if k else name: v for k, v in parts.items()})
        return found, logits

    def step(
        self,
        terms: dict[str, Tensor],
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None,
        part: Part = WHOLE,
    ) -> None:
        """Compute gradients and step the optimiser, by the row's gradient rule if it has one.

        ``clip_norm`` is for plain steps: a gradient rule clips by itself or not at all. ``part``:
        what this batch is of the batches that make one step; its gradients add up in the
        parameters until the last one steps.
        """
        if self._ruled is None:
            if part.first:
                optimizer.zero_grad(set_to_none=True)
            total = _total(terms.values())
            torch.autograd.backward(total if part.batches == 1 else total / part.batches)
            if not part.last:
                return
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
            return
        name = self.names[self._ruled]
        own = [v for k, v in terms.items() if k == name or k.startswith(f"{name}.")]
        rest = [v for k, v in terms.items() if not (k == name or k.startswith(f"{name}."))]
        optimizer.zero_grad(set_to_none=True)
        rest_grads = _gradients(rest, parameters, retain_graph=bool(own))
        own_grads = _gradients(own, parameters, retain_graph=False)
        self.methods[self._ruled].update(optimizer, parameters, rest_grads, own_grads)


def _total(terms: Any) -> Tensor:
    total, *others = terms
    for other in others:
        total = total + other
    assert isinstance(total, Tensor)
    return total


def _gradients(
    terms: list[Tensor], parameters: Sequence[nn.Parameter], retain_graph: bool
) -> list[Tensor | None]:
    if not terms:
        return [None] * len(parameters)
    found = torch.autograd.grad(
        _total(terms), list(parameters), retain_graph=retain_graph, allow_unused=True
    )
    # Unlike backward, grad leaves a gradient as its kernel laid it out.
    return [
        None if gradient is None else laid_out_like(parameter, gradient)
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def _unique(names: Sequence[str]) -> list[str]:
    return [
        name if names.count(name) == 1 else f"{name}{names[:i].count(name) + 1}"
        for i, name in enumerate(names)
    ]
