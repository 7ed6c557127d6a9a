"""MHGD: a graph over the batch, learned as attention between stages, is passed to the student.

Lee & Song 2019, "Graph-based Knowledge Distillation by Multi-head Attention Network" (BMVC,
arXiv:1907.02226), sections 3.1 to 3.4. Each stage's map is compressed to its leading right singular
vector (of H*W positions by C channels). First stage: for every two neighbouring stages eight
attention heads and an estimator learn, on the teacher alone, to guess the later vectors from the
earlier ones; heads are dropped at random. Main stage: the student's vectors go through the
teacher's frozen attention (batch norms in eval mode), and KL(softmax(tanh S_student) ||
softmax(tanh S_teacher)) is SUMMED over heads and rows. Its gradient is clipped, parameter by
parameter, to the norm of the other terms' gradient times sigmoid(epochs since the first stage).

As in sseung0703/KD_methods_with_TF@9fb5414: tanh, which the equations do not have (``squash``), 40
epochs of the first stage, of each student's four leading vectors the one that aligns best with the
teacher's, and its sign. Equal channels of both networks are needed. Gradients through the singular
vectors are exact first-order ones here, of Gram matrices; there an approximation.
The first stage's SGD is the recipe's; that code has Nesterov, and 5e-4 times the sum of squares in
the loss, which SGD calls a decay of 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods import _mhgd_losses as graph
from benchmark.methods._batch import need_two
from benchmark.methods._maps import need_maps, stage_pairs
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kdsvd import aligned, as_matrix, right_singular_vectors
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Model

CANDIDATES = 4  # leading vectors of the student to choose from


@full_precision
def leading_vector(map_: Tensor) -> Tensor:
    """Return the leading right singular vector [B, C] of maps [B, C, H, W], its sum positive."""
    vectors, _ = right_singular_vectors(as_matrix(map_, "channels"), 1)
    found = vectors.squeeze(2)
    return found * torch.where(found.sum(1, keepdim=True) < 0, -1.0, 1.0)


@full_precision
def aligned_vector(map_: Tensor, teacher: Tensor) -> Tensor:
    """Return that of the leading vectors of maps [B, C, H, W] most parallel to [B, C]."""
    matrix = as_matrix(map_, "channels")
    count = min(CANDIDATES, *matrix.shape[1:])
    vectors, _ = right_singular_vectors(matrix, count)
    return aligned(vectors, teacher.unsqueeze(2)).squeeze(2)


class Options(MethodOptions):
    """Heads, stages and weight."""

    weight: float = Field(1.0, ge=0, description="weight of the transferred graph")
    num_heads: int = Field(8, ge=1, description="attention heads")
    squash: bool = Field(True, description="tanh of the scores before they are compared")
    prepare_epochs: int = Field(40, ge=0, description="epochs that train the attention alone")


class MHGD(Method[Options]):
    """Attention between neighbouring stages, trained first and then frozen."""

    relational = True
    teacher_maps = ("stages",)
    prepare_student = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        student, teacher = setup.student, setup.need_teacher()
        need_maps("mhgd", student, teacher)
        pairs = stage_pairs(student.features.stages[1:], teacher.features.stages[1:])
        if any(s.shape[1] != t.shape[1] for s, t in pairs):
            raise UserError(
                f"mhgd needs equal channels in every stage; {student.name} and {teacher.name}"
                " differ"
            )
        widths = [t.shape[1] for _, t in pairs]
        self.attention, self.estimators = nn.ModuleList(), nn.ModuleList()
        for earlier, later in pairwise(widths):
            sizes = (later, earlier, (later + earlier) // 2, options.num_heads)
            self.attention.append(graph.Attention(*sizes))
            self.estimators.append(graph.Estimator(*sizes))
        # Trainable in the first stage only, so that the main optimiser never takes them.
        self.requires_grad_(False)
        self._prepared = False
        self._epochs_done = 0  # as of the step at hand

    # -- the first stage ----------------------------------------------------------------------

    @property
    def prepare_epochs(self) -> int:
        """Epochs of the attention's training."""
        return self.options.prepare_epochs

    def prepare_parameters(self, student: Model) -> Sequence[nn.Parameter]:
        """Return the attention's and the estimators' parameters, made trainable."""
        return list(self.requires_grad_(True).parameters())

    def prepare_loss(self, step: Step) -> Tensor:
        """Return how badly later vectors are guessed from earlier ones."""
        need_two("mhgd", step.labels)
        vectors = [leading_vector(map_) for map_ in self._stages(step)]
        parts = []
        for (earlier, later), attention, estimator in zip(
            pairwise(vectors), self.attention, self.estimators, strict=True
        ):
            scores = attention(later, earlier)
            kept = graph.kept_heads(torch.randn(*scores.shape[:2], 1, device=scores.device))
            estimated = estimator(earlier, scores.softmax(2) * kept)
            parts.append(graph.estimator_loss(estimated, later))
        summed: Tensor = torch.stack(parts).sum()
        return summed

    def prepared(self) -> None:
        """Fix the attention."""
        self.requires_grad_(False)
        self._prepared = True

    # -- the main stage -----------------------------------------------------------------------

    def train(self, mode: bool = True) -> MHGD:
        """Keep the attention's batch norms in eval mode once it is fixed."""
        super().train(mode)
        if self._prepared or not self.options.prepare_epochs:
            for part in (self.attention, self.estimators):
                part.train(False)
        return self

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence of the student's graph from the teacher's."""
        if self.training:
            self.train()
            self._epochs_done = step.epoch - 1
        theirs = [leading_vector(map_) for map_ in self._stages(step)]
        pairs = zip(step.student.stages[1:], theirs, strict=False)
        ours = [aligned_vector(map_, vector) for map_, vector in pairs]
        parts: list[Tensor] = []
        for (s, s_later), (t, t_later), attention in zip(
            pairwise(ours), pairwise(theirs), self.attention, strict=True
        ):
            scores = attention(s_later, s), attention(t_later, t)
            parts.append(graph.transfer_loss(*scores, squash=self.options.squash))
        summed: Tensor = torch.stack(parts).sum()
        return summed * self.options.weight

    def _stages(self, step: Step) -> tuple[Tensor, ...]:
        return step.need_teacher().stages[1 : len(self.attention) + 2]

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        rest: Sequence[Tensor | None],
        own: Sequence[Tensor | None],
    ) -> None:
        """Step by the others' gradient plus the method's own, clipped tensor by tensor."""
        share = clip_share(self._epochs_done)
        for parameter, others, mine in zip(parameters, rest, own, strict=True):
            if mine is None or others is None:
                parameter.grad = others if mine is None else mine
                continue
            parameter.grad = others + clipped_to(mine, others, share)
        optimizer.step()


def clip_share(epochs_done: int) -> float:
    """Return the most of the others' norm that the graph's gradient may have: from 0.5 to 1."""
    return 1.0 / (1.0 + math.exp(-epochs_done))


def clipped_to(gradient: Tensor, reference: Tensor, share: float) -> Tensor:
    """Return ``gradient``, no longer than ``share`` times ``reference``."""
    limit: Tensor = share * torch.linalg.vector_norm(reference)
    norm: Tensor = torch.linalg.vector_norm(gradient)
    return gradient * (limit / norm.clamp(min=1e-12)).clamp(max=1.0)
