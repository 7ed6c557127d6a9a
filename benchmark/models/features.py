"""The contract of every network: what it returns, and the parts that methods ask for."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from benchmark.base.errors import UserError

# All but the logits, which every pack keeps. The pooled vector is a map of one pixel.
MapName = Literal["pooled", "stages", "preacts", "last_map", "heads", "patches"]
MAPS: tuple[MapName, ...] = ("pooled", "stages", "preacts", "last_map", "heads", "patches")


class Features(NamedTuple):
    """What every model returns from ``features(images)``, for a batch of B images.

    logits [B, K]; pooled [B, D], the classifier's input; stages: the stem first, then after
    each stage, [B, C, H, W] (or [B, N, C] for transformers); preacts: the same before their
    last activation (equal to the stage if there is no activation to precede).

    last_map [B, D, H, W]: the map whose mean over space is ``pooled``. It is the last stage in
    most networks, what follows its last batch norm in wide ResNets, and comes after a further
    convolution in MobileNetV2 and ShuffleNetV2; None if the classifier's input is no such
    mean (transformers). CAT-KD and SimKD read it.

    heads: the logits [B, K] of each head if a network has several (a distilled DeiT: class,
    distillation), ``logits`` being their mean; empty elsewhere. patches [B, N, D]: the patch
    tokens behind the last norm of a transformer, without class and distillation tokens; None
    elsewhere.
    """

    logits: Tensor
    pooled: Tensor
    stages: tuple[Tensor, ...]
    preacts: tuple[Tensor, ...]
    last_map: Tensor | None = None
    heads: tuple[Tensor, ...] = ()
    patches: Tensor | None = None

    def only(self, maps: Container[str]) -> Features:
        """Return these features with all maps but ``maps`` dropped: nothing holds them any more."""
        kept = (
            value if name == "logits" or name in maps else _DROPPED
            for name, value in zip(self._fields, self, strict=True)
        )
        return _Thinned._make(kept)

    def map(self, function: Callable[[Tensor], Tensor]) -> Features:
        """Apply ``function`` to every tensor that was not dropped, once to each."""
        found: dict[int, Tensor] = {}  # a map may stand in several places

        def once(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(once, value))
            if value is _DROPPED or value is None:
                return value
            if id(value) not in found:
                found[id(value)] = function(value)
            return found[id(value)]

        return type(self)._make(map(once, self))


_DROPPED: Any = object()


class _Thinned(Features):
    """Features of which some maps were dropped: asking for one of those is an error."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if value is _DROPPED:
            raise DroppedError(
                f"the teacher's {name} were dropped: the method must name them in teacher_maps"
            )
        return value


class DroppedError(Exception):
    """A map was read that had been dropped."""


class Model(nn.Module):
    """A network with features, a linear head, and known batch-norm layers before its ReLUs.

    A network that says how to run each of its stages, and how it ends, can be cut after any of
    them; one that defines :meth:`features` alone cannot.
    """

    @property
    def num_stages(self) -> int:
        """How many stages follow the stem. UserError for a network that cannot be cut."""
        raise UserError(f"{type(self).__name__} cannot be cut after a stage")

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run one stage, the stem being 0; return its map and the same before its activation."""
        raise UserError(f"{type(self).__name__} cannot be cut after a stage")

    def finish(self, stages: tuple[Tensor, ...], preacts: tuple[Tensor, ...]) -> Features:
        """Return the features, given the maps of the last stages."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Features:
        """Return logits, pooled vector, stage maps and their pre-activations."""
        stem, before = self.stage(0, images)
        return self._onwards(0, stem, before)

    def trunk(self, number: int, images: Tensor) -> Tensor:
        """Return the map after stage ``number`` (the stem is 0); later stages are not run."""
        self.check_stage(number)
        x = images
        for i in range(number + 1):
            x, _ = self.stage(i, x)
        return x

    def after(self, number: int, x: Tensor) -> Features:
        """Return the features from the map ``x`` of stage ``number`` on.

        ``stages`` begins with ``x`` itself; if its pre-activation is not known it stands for
        that, too. ``after(k, trunk(k, images))`` has the logits of ``features(images)``.
        """
        self.check_stage(number)
        return self._onwards(number, x, x)

    def check_stage(self, number: int) -> None:
        """Raise UserError if the network has no stage ``number``, or none after it."""
        if not 0 <= number < self.num_stages:
            raise UserError(
                f"{type(self).__name__} has {self.num_stages} stages, so it can be cut after"
                f" 0 (its stem) to {self.num_stages - 1}, not after {number}"
            )

    def _onwards(self, number: int, x: Tensor, before: Tensor) -> Features:
        stages, preacts = [x], [before]
        for i in range(number + 1, self.num_stages + 1):
            x, before = self.stage(i, x)
            stages.append(x)
            preacts.append(before)
        return self.finish(tuple(stages), tuple(preacts))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, K] alone."""
        return self.features(images).logits

    @property
    def head(self) -> nn.Linear:
        """The classifier: ``logits = head(pooled)``."""
        raise NotImplementedError

    @property
    def heads(self) -> tuple[nn.Linear, ...]:
        """The classifiers whose mean the logits are: of most networks the one that there is."""
        return (self.head,)

    def init_linear(self, linear: nn.Linear) -> None:
        """Initialise a linear layer that stands beside the classifier as this network's own are.

        torch's way if the network does not say. In published code such a layer is a part of
        the network and met by the loop that initialises it.
        """

    def no_weight_decay(self) -> frozenset[str]:
        """Return names (or patterns) of parameters that recipes may spare of weight decay."""
        return frozenset()

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the batch-norm layers whose outputs end in ``preacts[1:]``, aligned from the end.

        OFD takes its margins from them.
        """
        raise NotImplementedError
