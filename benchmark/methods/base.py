"""What a distillation method is: a loss on the features of two networks, and what it needs.

A method is one file: a pure loss function first, then a subclass of :class:`Method` that
wires it, and a class ``Options`` (see options.py) that can be read without importing torch.
The name of the file is the name of the method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from benchmark.base.companion import Kind
from benchmark.methods.options import DECIDED, MethodOptions
from benchmark.methods.seen import Probe, Setup, Step
from benchmark.models.features import MAPS, Features, MapName, Model

__all__ = ["MAIN", "Entries", "Method", "Optim", "Probe", "Setup", "Step", "Terms"]

OptionsT = TypeVar("OptionsT", bound=MethodOptions)
MAIN = "main"  # the recipe's optimiser
Terms = Tensor | dict[str, Tensor]
Entries = Mapping[str | tuple[str, ...], Terms]


class Optim(NamedTuple):
    """An optimiser beside the recipe's.

    ``lr`` and ``weight_decay`` None: the recipe's; the recipe's schedule scales either rate, and
    its momentum is SGD's. ``clip_norm``: of its own parameters' gradient. Its parameters leave
    the recipe's optimiser, unless ``shared``: then both move them.
    """

    parameters: Sequence[nn.Parameter]
    kind: Literal["sgd", "adam"] = "sgd"
    lr: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    shared: bool = False


class Method(nn.Module, Generic[OptionsT]):
    """One distillation method. Submodules are trained, counted and checkpointed with the student.

    Class attributes (literals, so that they can be read without importing the file; where an
    option decides, a property of ``Options`` of the same name):

    - ``version``: raised whenever the method's numbers change; part of every run's key.
    - ``needs_teacher``: False for baselines.
    - ``teacher_maps``: which maps of the shared teacher the losses read; those that no method of
      a pack names are dropped after the teacher's pass, and reading one is an error.
    - ``prepare_student``: False if the first stage looks at the teacher alone; the student's
      features are then not computed (and its batch statistics not moved) in it.
    - ``private_teacher``: "train" gives the method its own copy of the teacher, kept in train
      mode and in the run's checkpoint, whose features then stand in ``Step.teacher``. Where an
      option decides it, an instance sets its own.
    - ``companions``: further images of each step, as (kind, number); see base/companion.py.
    - ``uses_images``: False for a run that reads no image and no label.
    - ``shares_student``: True if it holds parameters of the student on purpose; the optimiser
      gets each parameter once.
    - ``evaluates``: the names of what :meth:`outputs` returns; see ``of_stages`` of the options.
    - ``averaged``: those outputs ("student" among them) whose mean accuracy is noted.
    - ``reported``: which output the table prints; "student" or one of ``evaluates``.
    - ``keeps_memory``: True if its loss writes buffers of its own (not batch statistics), so
      that replicas, of which each sees a part of a batch, cannot share its steps.
    - ``relational``: True if its loss compares the images of a batch with each other, and so
      sees a replica's part of it; a published run on several GPUs saw a GPU's part.
    - ``wants_held_out``: True where :meth:`end_epoch` looks at the held-out images.
    - ``moving_copies``: those of its untrained parts that steps change on purpose, an average of
      weights say; all others rest in eval mode, and only an epoch's end renews them.
    """

    version: ClassVar[int] = 1
    needs_teacher: ClassVar[bool] = True
    teacher_maps: ClassVar[tuple[MapName, ...]] = MAPS
    prepare_student: ClassVar[bool] = True
    keeps_memory: ClassVar[bool] = False
    relational: ClassVar[bool] = False
    moving_copies: ClassVar[tuple[str, ...]] = ()
    private_teacher: Literal["train"] | None = None
    companions: tuple[tuple[Kind, int], ...] = ()
    uses_images: bool = True
    shares_student: bool = False
    evaluates: tuple[str, ...] = ()
    averaged: tuple[str, ...] = ()
    reported: str = "student"
    wants_held_out: bool = False

    def __init__(self, setup: Setup, options: OptionsT) -> None:
        super().__init__()
        self.options = options
        self.num_classes = setup.num_classes
        for name in DECIDED:
            if hasattr(options, name):
                setattr(self, name, getattr(options, name))

    @property
    def ce_weight(self) -> float:
        """Weight of the cross-entropy on the labels, which the engine adds once."""
        return float(getattr(self.options, "ce_weight", 1.0))

    def loss(self, step: Step) -> Terms:
        """Return the method's own term, weighted: a scalar, or named scalars that are summed."""
        raise NotImplementedError

    def predict(self, student: Features) -> Tensor:
        """Return the logits [B, K] that are trained on the labels and evaluated."""
        return student.logits

    def forward(self, step: Step) -> tuple[Terms, Tensor]:
        """Return :meth:`loss` and :meth:`predict` of one training step.

        A method in which both share work defines this in the place of ``loss``, and ``predict``
        for the evaluation.
        """
        return self.loss(step), self.predict(step.student)

    # -- several networks, optimisers and updates ---------------------------------------------

    def optimizers(self) -> dict[str, Optim]:
        """Return the optimisers beside the recipe's, by name."""
        return {}

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield the updates of one step in the place of :meth:`loss`: who moves by which terms.

        The gradients of all entries of a turn are taken at one point; then the optimisers step,
        in the entries' order. "main" is the recipe's optimiser, others are those of
        :meth:`optimizers`; a tuple of names is moved by one gradient. After the update the
        generator is resumed: what it computes then sees the new weights. The cross-entropy on
        the labels and the terms of a row's other methods join the first entry with "main".
        """
        yield {MAIN: self.loss(step)}

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return further logits [B, K] to evaluate, under the names of ``evaluates``."""
        return {}

    def end_epoch(self, epoch: int, held_out: dict[str, Tensor] | None) -> None:
        """Called after each epoch (from 1), evaluated or not, the last one too.

        Without gradients, after the evaluation. ``held_out``, where ``wants_held_out``: by output
        the logits [N, K] on the held-out images in eval mode, and their ``labels`` [N].
        """

    def projections(self, student: Features) -> dict[str, tuple[Tensor, nn.Module]]:
        """Return what it maps to the teacher's space: by name the input [B, D], and the map.

        For the probe of projectors alone; nothing that is trained asks for it.
        """
        return {}

    # -- an optional first stage, run before the first epoch inside the same run -----------

    @property
    def prepare_epochs(self) -> int:
        """Epochs of the first stage; 0 for methods without one."""
        return 0

    def prepare_lr(self, lr: float) -> float:
        """Return the first stage's constant learning rate, given the recipe's initial one."""
        return lr

    def prepare_parameters(self, student: Model) -> Sequence[nn.Parameter]:
        """Return what the first stage trains (parameters of the method, of the student)."""
        return list(self.parameters())

    def prepare_loss(self, step: Step) -> Tensor:
        """Return the first stage's loss, weighted; it alone is minimised there."""
        raise NotImplementedError

    def prepared(self) -> None:
        """Called once when the first stage ends, and after a resume past it (freeze parts)."""

    # -- an optional gradient rule ----------------------------------------------------------

    @property
    def has_gradient_rule(self) -> bool:
        """True where :meth:`update` replaces the plain optimiser step: if there is one.

        Where it depends on the options, they have a property of this name.
        """
        ruled = type(self).update is not Method.update
        return bool(getattr(self.options, "has_gradient_rule", ruled))

    @property
    def clips_gradients(self) -> bool:
        """True where :meth:`update` clips gradients itself, in place of a recipe's ``clip_norm``.

        A recipe that clips is refused for gradient rules that do not. A property of the options.
        """
        return bool(getattr(self.options, "clips_gradients", False))

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        rest: Sequence[Tensor | None],
        own: Sequence[Tensor | None],
    ) -> None:
        """Step the optimiser from gradients kept apart.

        ``own`` are the gradients of this method's term, ``rest`` those of the sum of all
        others, each aligned with ``parameters``; None if a parameter has none. State that
        must survive a resume lives in ``optimizer.state``.
        """
        raise NotImplementedError
