"""One run's objective: cross-entropy on the labels plus the methods' terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.base.companion import Companion
from benchmark.base.errors import UserError
from benchmark.data.batches import Batch
from benchmark.methods.base import MAIN, Method, Step, Terms
from benchmark.methods.catalog import forward_instead
from benchmark.methods.composition import STUDENT, RowPart, compose
from benchmark.models.features import Features
from benchmark.train.optimiser import laid_out_like
from benchmark.train.replicas import Gradients

AnyMethod = Method[Any]
Named = dict[str, Tensor]
Further = Mapping[Companion, Batch]


class MicroBatch(NamedTuple):
    """One of several batches whose gradients make one optimiser step."""

    first: bool
    last: bool
    batches: int

    @classmethod
    def of(cls, step: int, steps: int, accumulate: int) -> MicroBatch:
        """Return the part that ``step`` of an epoch of ``steps`` is; the last step may have fewer.

        Batches of a step are averaged, as timm's training script does.
        """
        start = step - step % accumulate
        count = min(accumulate, steps - start)
        return cls(step == start, step == start + count - 1, count)


WHOLE = MicroBatch(True, True, 1)


class Turn(NamedTuple):
    """One update: who moves by which terms, in order, each with the gradients of one point."""

    entries: tuple[tuple[tuple[str, ...], Named], ...]


class Objective:
    """Sums the terms of one row of methods and applies the one gradient rule it may have."""

    def __init__(
        self,
        methods: Sequence[AnyMethod],
        names: Sequence[str],
        ce_weight: float | None = None,
        predict: str | None = None,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        accumulate: int = 1,
        reported: str | None = None,
    ) -> None:
        self.methods = list(methods)
        self.names = list(names)
        self._smoothing = label_smoothing
        parts = [part_of(*pair) for pair in zip(names, methods, strict=True)]
        row = compose(parts, ce_weight, predict, clip_norm, accumulate, reported)
        self.ce_weight = row.ce_weight if all(part.uses_images for part in parts) else 0.0
        self.reported, self.outputs = row.reported, row.outputs
        self._predicting = row.predicting
        self._ruled = row.ruled
        self._turning = row.turning

    @property
    def takes_turns(self) -> bool:
        """Whether a step is the turns of one of the methods."""
        return self._turning is not None

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

    def evaluated(self, images: Tensor, student: Features) -> Named:
        """Return the logits of every evaluated output by name, the prediction as "student"."""
        found = {STUDENT: self.predict(student)}
        for name, method in zip(self.names, self.methods, strict=True):
            if not method.evaluates:
                continue
            own = method.outputs(images, student)
            if set(own) != set(method.evaluates):
                raise UserError(
                    f"{name} evaluates {', '.join(method.evaluates)}, and its outputs are"
                    f" {', '.join(own) or 'none'}"
                )
            found |= {key: own[key] for key in method.evaluates}
        return found

    def terms(
        self, step: Step, private: Features | None = None, further: Further | None = None
    ) -> tuple[Named, Tensor]:
        """Return the weighted terms by name (``ce`` first), and the predicted logits.

        A method's single term bears the method's name, named ones ``method.name``. Methods
        with a private teacher see ``private`` as the teacher's features, and each sees those of
        the ``further`` images that it declares. The terms of a method with turns are its turns'.
        """
        at_once: Terms | None = None
        chosen = None if self._predicting is None else self.methods[self._predicting]
        if chosen is not None and _at_once(chosen):
            at_once, logits = chosen.forward(_seen(chosen, step, private, further))
        else:
            logits = self.predict(step.student)
        found: Named = {}
        if self.ce_weight != 0:
            found["ce"] = self.ce_weight * self._cross_entropy(logits, step)
        for i, (name, method) in enumerate(zip(self.names, self.methods, strict=True)):
            if i == self._turning:
                continue
            if at_once is not None and i == self._predicting:
                found |= _named(name, at_once)
                continue
            seen = _seen(method, step, private, further)
            found |= _named(
                name, method.forward(seen)[0] if _at_once(method) else method.loss(seen)
            )
        return found, logits

    def turns(
        self, step: Step, private: Features | None, further: Further | None, row: Named
    ) -> Iterator[Turn]:
        """Yield the updates of a step; the other terms of the row join the first with "main"."""
        assert self._turning is not None
        method, name = self.methods[self._turning], self.names[self._turning]
        joins = bool(row)
        for entries in method.turns(_seen(method, step, private, further)):
            found = []
            for who, terms in entries.items():
                movers = (who,) if isinstance(who, str) else tuple(who)
                named = _named(name, terms)
                if joins and MAIN in movers:
                    named, joins = row | named, False
                found.append((movers, named))
            yield Turn(tuple(found))
        if joins:
            raise UserError(
                f"no turn of {name} moves 'main', so the row's other terms"
                f" ({', '.join(row)}) would be left out"
            )

    def step(
        self,
        terms: Named,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None,
        part: MicroBatch = WHOLE,
    ) -> None:
        """Compute gradients and step the optimiser, by the row's gradient rule if it has one.

        ``clip_norm`` is for plain steps: a gradient rule clips by itself or not at all. ``part``:
        what this batch is of the batches that make one step; its gradients add up in the
        parameters until the last one steps.
        """
        if self._ruled is None:
            if part.first:
                optimizer.zero_grad(set_to_none=True)
            loss = total(terms.values())
            torch.autograd.backward(loss if part.batches == 1 else loss / part.batches)
            if not part.last:
                return
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
            return
        optimizer.zero_grad(set_to_none=True)
        rest, own = self._apart(terms, parameters)
        self.methods[self._ruled].update(optimizer, parameters, rest, own)

    def _apart(self, terms: Named, parameters: Sequence[nn.Parameter]) -> tuple[Gradients, ...]:
        """Return the gradients of the others' terms, and those of the method with a rule."""
        assert self._ruled is not None
        name = self.names[self._ruled]
        own = [v for k, v in terms.items() if k == name or k.startswith(f"{name}.")]
        rest = [v for k, v in terms.items() if not (k == name or k.startswith(f"{name}."))]
        rest_grads = gradients(rest, parameters, retain_graph=bool(own))
        return rest_grads, gradients(own, parameters, retain_graph=False)

    # -- the same in two halves, between which replicas add up what they found ------------------

    def gradients(self, terms: Named, parameters: Sequence[nn.Parameter]) -> tuple[Gradients, ...]:
        """Return the gradients that :meth:`apply` steps by, in lists that the row keeps apart."""
        if self._ruled is None:
            return (gradients(list(terms.values()), parameters, retain_graph=False),)
        return self._apart(terms, parameters)

    def apply(
        self,
        found: Sequence[Gradients],
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None,
        part: MicroBatch = WHOLE,
    ) -> None:
        """Step the optimiser by gradients, as :meth:`step` does by those that it computes."""
        if part.first:
            optimizer.zero_grad(set_to_none=True)
        if self._ruled is not None:
            self.methods[self._ruled].update(optimizer, parameters, *found)
            return
        add_gradients(parameters, found[0])
        if not part.last:
            return
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimizer.step()


def part_of(name: str, method: AnyMethod) -> RowPart:
    """Return what the rules of composition ask of a built method.

    Raises UserError if its class would be asked for one loss and has changed another.
    """
    own = type(method)
    order = list(own.__mro__)
    changed, asked = (next(c for c in order if a in vars(c)) for a in ("loss", "forward"))
    if asked is not Method and order.index(changed) < order.index(asked):
        raise UserError(forward_instead(name, asked.__name__))
    return RowPart(
        name=name,
        ce_weight=method.ce_weight,
        predicts=own.predict is not Method.predict or _at_once(method),
        ruled=method.has_gradient_rule,
        clips=method.clips_gradients,
        turns=own.turns is not Method.turns,
        uses_images=method.uses_images,
        evaluates=tuple(method.evaluates),
        reported=method.reported,
    )


def add_gradients(parameters: Sequence[nn.Parameter], found: Gradients) -> None:
    """Add gradients to those that wait in the parameters."""
    for parameter, gradient in zip(parameters, found, strict=True):
        if gradient is not None:
            waiting = parameter.grad
            parameter.grad = gradient if waiting is None else waiting.add_(gradient)


def total(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of terms, of which there is at least one."""
    summed, *others = terms
    for other in others:
        summed = summed + other
    return summed


def gradients(
    terms: Sequence[Tensor], parameters: Sequence[nn.Parameter], retain_graph: bool
) -> Gradients:
    """Return the gradient of the sum of terms into each parameter, None if there is none."""
    if not terms:
        return [None] * len(parameters)
    found = torch.autograd.grad(
        total(terms), list(parameters), retain_graph=retain_graph, allow_unused=True
    )
    # Unlike backward, grad leaves a gradient as its kernel laid it out.
    return [
        None if gradient is None else laid_out_like(parameter, gradient)
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def _at_once(method: AnyMethod) -> bool:
    """Whether terms and prediction come of one call."""
    return type(method).forward is not Method.forward


def _seen(method: AnyMethod, step: Step, private: Features | None, further: Further | None) -> Step:
    seen = step._replace(teacher=private) if method.private_teacher else step
    if further is None or not method.companions:
        return seen
    own = tuple(further[Companion(kind, number)] for kind, number in method.companions)
    return seen._replace(companions=own)


def _named(name: str, terms: Terms) -> Named:
    parts = {"": terms} if isinstance(terms, Tensor) else terms
    return {f"{name}.{k}" if k else name: v for k, v in parts.items()}
