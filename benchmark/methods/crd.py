"""Contrastive representation distillation (CRD): tell a sample's own feature from 16,384 others.

Tian et al. 2020, "Contrastive Representation Distillation" (arXiv:1910.10699), section 3 and the
memory of Wu et al. 2018 (arXiv:1805.01978). Both pooled features are embedded linearly in 128
dimensions, at unit length. The student's anchor is compared with the teacher's memory, at the
sample itself and at negatives of other classes, and the teacher's anchor with the student's
memory; both embeddings train. Noise-contrastive estimation with a partition constant Z per side,
fixed from the first batch. Weight 0.8; CRD + KD is a composition.

The arithmetic differs from the reference code, the numbers do not: one dense product of the
anchors with the whole memory and a gather, instead of gathered vectors and a batched product
([64, 50,000] instead of [64, 16,385, 128] on CIFAR-100; on ImageNet [256, 1.28 M] is 1.3 GB a
side), and logarithms instead of exponentials if those could overflow.

Negatives are a function of (seed, epoch, index), without replacement (see _negatives.py). The
reference draws them in its data workers: without replacement on CIFAR-100, with replacement on
ImageNet, where 16,384 of 1.28 million hardly ever coincide. If a training set has too few
samples of other classes (small test sets), draws are with replacement.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._negatives import Negatives
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions

EPS = 1e-7


@full_precision
def similarities(anchors: Tensor, memory: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    """Return anchors . memory / temperature at the chosen positions, [B, 1 + K].

    anchors [B, E]; memory [N, E]; chosen [B, 1 + K], the sample itself first.
    """
    scores: Tensor = F.linear(anchors / temperature, memory)
    return scores.gather(1, chosen)


def log_partition(scores: Tensor, num_samples: int) -> Tensor:
    """Return log Z = log(N mean(exp(scores))), without gradient, for scores [B, 1 + K]."""
    flat = scores.detach().flatten()
    return flat.logsumexp(0) - math.log(len(flat)) + math.log(num_samples)


@full_precision
def nce_loss(scores: Tensor, log_z: Tensor, num_samples: int) -> Tensor:
    """Return the noise-contrastive loss, summed over 1 + K and averaged over the batch.

    scores [B, 1 + K], the positive first; with P = exp(score) / Z, noise 1 / N and c = K / N + eps:
    -log(P / (P + c)) for the positive and -log((K / N) / (P + c)) for each negative.
    """
    num_negatives = scores.shape[1] - 1
    noise = num_negatives / num_samples
    log_p = scores - log_z
    of_negatives = num_negatives * math.log(noise)
    per_sample = (log_p.exp() + (noise + EPS)).log().sum(1) - log_p[:, 0] - of_negatives
    return per_sample.mean()


@torch.no_grad()
def refresh(memory: Tensor, indices: Tensor, anchors: Tensor, momentum: float) -> None:
    """Move the memory [N, E] at ``indices`` [B] towards the anchors [B, E], at unit length.

    Of a sample that stands in the batch more than once the last one counts, on any device.
    """
    places = torch.arange(len(indices), device=indices.device)
    same = indices[:, None] == indices[None, :]
    last = (same * places).amax(1)
    moved = momentum * memory[indices] + (1 - momentum) * anchors.detach().to(memory.dtype)
    memory.index_copy_(0, indices, F.normalize(moved, dim=1)[last])


class LinearEmbed(nn.Module):
    """A linear map of the pooled feature, brought to unit length."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map [B, D] to [B, E]."""
        return unit(self.linear(pooled))


@full_precision
def unit(x: Tensor) -> Tensor:
    """Return rows [B, E] at unit length."""
    return F.normalize(x, dim=1)


class _AtOnce(torch.autograd.Function):
    """A value whose gradient was computed together with it."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """Return ``value``; ``gradient`` is its derivative by ``anchors``."""
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        """Scale the stored gradient."""
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


class Bank(nn.Module):
    """The memories of both networks [N, E] and the partition constants of both sides.

    ``log_z_s`` belongs to the student's anchors (against the teacher's memory). ``started``
    tells that the constants are fixed: a tensor, so that no step waits for the device.
    """

    memory_s: Tensor
    memory_t: Tensor
    log_z_s: Tensor
    log_z_t: Tensor
    started: Tensor

    def __init__(self, num_samples: int, dim: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(dim / 3)
        for side in ("s", "t"):
            memory = torch.empty(num_samples, dim).uniform_(-bound, bound)
            self.register_buffer(f"memory_{side}", memory)
            self.register_buffer(f"log_z_{side}", torch.zeros(()))
        self.register_buffer("started", torch.tensor(False))

    def contrast(
        self, student: Tensor, teacher: Tensor, chosen: Tensor, temperature: float
    ) -> Tensor:
        """Return the sum of both sides' losses for anchors [B, E], chosen [B, 1 + K]."""
        total: Tensor = student.new_zeros(())
        for anchors, memory, log_z in (
            (student, self.memory_t, self.log_z_s),
            (teacher, self.memory_s, self.log_z_t),
        ):
            total = total + _side(anchors, memory, log_z, self.started, chosen, temperature)
        self.started.fill_(True)
        return total

    def refresh(self, student: Tensor, teacher: Tensor, indices: Tensor, momentum: float) -> None:
        """Move both memories towards the anchors [B, E] of ``indices`` [B]."""
        refresh(self.memory_s, indices, student, momentum)
        refresh(self.memory_t, indices, teacher, momentum)


def _side(
    anchors: Tensor,
    memory: Tensor,
    log_z: Tensor,
    started: Tensor,
    chosen: Tensor,
    temperature: float,
) -> Tensor:
    # The gradient is taken here and now: the memory changes in place before the backward pass.
    with_gradient = torch.is_grad_enabled() and anchors.requires_grad
    leaf = anchors.detach().requires_grad_(with_gradient)
    scores = similarities(leaf, memory, chosen, temperature)
    log_z.copy_(torch.where(started, log_z, log_partition(scores, len(memory))))
    loss = nce_loss(scores, log_z, len(memory))
    if not with_gradient:
        return loss
    (gradient,) = torch.autograd.grad(loss, leaf)
    found: Tensor = _AtOnce.apply(anchors, loss.detach(), gradient)  # type: ignore[no-untyped-call]
    return found


class Options(MethodOptions):
    """Options of CRD."""

    weight: float = Field(0.8, ge=0, description="weight of the sum of both sides' losses")
    num_negatives: int = Field(16384, gt=0, description="negatives per sample")
    dim: int = Field(128, gt=0, description="dimensions of the embeddings")
    temperature: float = Field(0.07, gt=0, description="divides the dot products")
    momentum: float = Field(0.5, ge=0, lt=1, description="share that the memory keeps at an update")


class CRD(Method[Options]):
    """Both contrastive losses; memories and partition constants are kept in checkpoints."""

    keeps_memory = True
    teacher_maps = ("pooled",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        self.embed_s = LinearEmbed(setup.student.features.pooled.shape[1], options.dim)
        self.embed_t = LinearEmbed(teacher.features.pooled.shape[1], options.dim)
        self.bank = Bank(len(setup.labels), options.dim)
        self.negatives = Negatives(setup.labels, options.num_negatives, setup.seed)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted loss of the batch; the memories move after it is computed."""
        options = self.options
        student = self.embed_s(step.student.pooled)
        teacher = self.embed_t(step.need_teacher().pooled)
        chosen = self.negatives(step.epoch, step.indices)
        loss = self.bank.contrast(student, teacher, chosen, options.temperature)
        self.bank.refresh(student, teacher, step.indices, options.momentum)
        return options.weight * loss
