"""What a distillation method is: a loss on the features of two networks, and what it needs.

A method is one file: a pure loss function first, then a subclass of :class:`Method` that
wires it, and a class ``Options`` (see options.py) that can be read without importing torch.
The name of the file is the name of the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from benchmark.methods.options import MethodOptions
from benchmark.models.features import MAPS, Features, MapName, Model

OptionsT = TypeVar("OptionsT", bound=MethodOptions)


class Probe(NamedTuple):
    """One network as a method sees it when it is built.

    ``features`` come from two images in eval mode and give every shape; ``model`` is the
    network itself, to read from (its head, its batch-norm layers). A method that keeps a part
    of it keeps a copy: assigning a module would make it one of the method's own. Hooks on the
    teacher are refused: a copy of it computes the features.
    """

    name: str
    model: Model
    features: Features


@dataclass(frozen=True)
class Setup:
    """All that a method may know before the first batch.

    ``labels`` [N] int64: the training labels in index order; ``batch_size``: of a full batch;
    ``epochs``: of the whole run; ``seed``: the run's. ``teacher`` is None for methods that
    need none.
    """

    student: Probe
    teacher: Probe | None
    num_classes: int
    labels: Tensor
    batch_size: int
    epochs: int
    seed: int

    def need_teacher(self) -> Probe:
        """Return the teacher's probe; a programmer's error where there is none."""
        assert self.teacher is not None, "this method needs a teacher"
        return self.teacher


class Step(NamedTuple):
    """One batch as a method's loss sees it.

    images [B, C, H, W], labels [B], indices [B] (positions in the training set); ``epoch``
    counts from 1 (during a first stage: from 1 to ``prepare_epochs``); teacher outputs carry
    no gradient. ``targets`` [B, K]: where images are mixed, their mixed and smoothed labels.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    student: Features
    teacher: Features | None
    epoch: int
    student_head: nn.Linear
    teacher_head: nn.Linear | None
    targets: Tensor | None = None

    def need_teacher(self) -> Features:
        """Return the teacher's features; a programmer's error where there are none."""
        assert self.teacher is not None, "this method needs a teacher"
        return self.teacher


class Method(nn.Module, Generic[OptionsT]):
    """One distillation method. Submodules are trained, counted and checkpointed with the student.

    Class attributes (literals, so that they can be read without importing the file):

    - ``version``: raised whenever the method's numbers change; part of every run's key.
    - ``needs_teacher``: False for baselines.
    - ``teacher_maps``: which maps of the shared teacher the losses read; those that no method of
      a pack names are dropped after the teacher's pass, and reading one is an error.
    - ``prepare_student``: False where the first stage looks at the teacher alone; the student's
      features are then not computed (and its batch statistics not moved) in it.
    - ``private_teacher``: "train" gives the method its own copy of the teacher, kept in train
      mode and in the run's checkpoint, whose features then stand in ``Step.teacher``. Where an
      option decides it, an instance sets its own.
    """

    version: ClassVar[int] = 1
    needs_teacher: ClassVar[bool] = True
    teacher_maps: ClassVar[tuple[MapName, ...]] = MAPS
    prepare_student: ClassVar[bool] = True
    private_teacher: Literal["train"] | None = None

    def __init__(self, setup: Setup, options: OptionsT) -> None:
        super().__init__()
        self.options = options
        self.num_classes = setup.num_classes

    @property
    def ce_weight(self) -> float:
        """Weight of the cross-entropy on the labels, which the engine adds once."""
        return float(getattr(self.options, "ce_weight", 1.0))

    def loss(self, step: Step) -> Tensor | dict[str, Tensor]:
        """Return the method's own term, weighted: a scalar, or named scalars that are summed."""
        raise NotImplementedError

    def predict(self, student: Features) -> Tensor:
        """Return the logits [B, K] that are trained on the labels and evaluated."""
        return student.logits

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
        """True where :meth:`update` replaces the plain optimiser step."""
        return False

    @property
    def clips_gradients(self) -> bool:
        """True where :meth:`update` clips gradients itself, in place of a recipe's ``clip_norm``.

        A recipe that clips is refused for gradient rules that do not.
        """
        return False

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        rest: Sequence[Tensor | None],
        own: Sequence[Tensor | None],
    ) -> None:
        """Step the optimiser from gradients kept apart.

        ``own`` are the gradients of this method's term, ``rest`` those of the sum of all
        others, each aligned with ``parameters``; None where a parameter has none. State that
        must survive a resume lives in ``optimizer.state``.
        """
        raise NotImplementedError
