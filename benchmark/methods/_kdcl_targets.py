"""KDCL's target selections: what several networks' logits say together; see kdcl.py."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods._logits import label_mask
from benchmark.methods._precision import full_precision

STEPS = 25  # Newton steps; their number is fixed, so that no pack sees another's
HALVINGS = 12


def naive_choice(logits: Tensor, labels: Tensor) -> Tensor:
    """Return for every sample [B] which of the networks [M, B, K] has the smallest CE."""
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    return losses.argmin(0)


def naive_target(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits [B, K] of each sample's best network, of [M, B, K]."""
    chosen = naive_choice(logits, labels)
    return logits[chosen, torch.arange(logits.shape[1], device=logits.device)]


def min_logit_target(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [B, K]: the smallest of the networks' logits [M, B, K], each less its label's."""
    at_label = logits.gather(2, labels.expand(len(logits), -1).unsqueeze(2))
    return (logits - at_label).amin(0)


@full_precision
def linear_weights(logits: Tensor, labels: Tensor, *, per_sample: bool) -> Tensor:
    """Return the weights on the simplex that minimise the CE of the mixed logits [M, B, K].

    [B, M] of each sample's own CE, or [1, M] of the batch's mean. Newton's method on the
    simplex: the quadratic model is minimised exactly on every face, which few networks have few of.
    """
    stacked = logits.transpose(0, 1)  # [B, M, K]
    own = stacked - stacked.gather(2, labels.view(-1, 1, 1).expand(-1, len(logits), 1))
    groups = own.unsqueeze(1) if per_sample else own.unsqueeze(0)  # [G, S, M, K]

    def losses(weights: Tensor) -> Tensor:  # [..., G, M] to [..., G]
        mixed = torch.einsum("...gm,gsmk->...gsk", weights, groups)
        return mixed.logsumexp(-1).mean(-1)

    weights = own.new_full((len(groups), len(logits)), 1.0 / len(logits))
    shares = 0.5 ** torch.arange(HALVINGS, dtype=own.dtype, device=own.device).view(-1, 1, 1)
    for _ in range(STEPS):
        probs = torch.einsum("gm,gsmk->gsk", weights, groups).softmax(-1)
        means = torch.einsum("gsk,gsmk->gsm", probs, groups)
        second = torch.einsum("gsk,gsmk,gsnk->gsmn", probs, groups, groups)
        hessian = (second - means.unsqueeze(-1) * means.unsqueeze(-2)).mean(1)
        linear = means.mean(1) - torch.einsum("gmn,gn->gm", hessian, weights)
        move = simplex_minimum(hessian, linear) - weights
        tried = torch.cat([weights + shares * move, weights.unsqueeze(0)])
        best = losses(tried).argmin(0)
        weights = tried[best, torch.arange(len(groups), device=own.device)]
    return weights


def error_correlation(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return C [M, M]: the mean inner product of the networks' errors on held-out images."""
    errors = torch.stack([F.softmax(z, 1) - label_mask(z, labels).to(z.dtype) for z in logits])
    return torch.einsum("mbk,nbk->mn", errors, errors) / errors.shape[1]


def general_weights(correlation: Tensor) -> Tensor:
    """Return the weights [M] on the simplex that minimise w' C w.

    They equal C^-1 1 / (1' C^-1 1) wherever that is positive.
    """
    return simplex_minimum(
        2 * correlation.unsqueeze(0), correlation.new_zeros(1, len(correlation))
    )[0]


def simplex_minimum(quadratic: Tensor, linear: Tensor) -> Tensor:
    """Return [G, M]: where w' Q w / 2 + l' w is smallest over the simplex, for Q [G, M, M].

    Every face's stationary point is tried; vertices among them, so there is always one.
    """
    size = linear.shape[1]
    ridge = 1e-14 * (quadratic.diagonal(dim1=1, dim2=2).sum(1) + 1e-30)
    best = linear.new_full(linear.shape[:1], torch.inf)
    found = torch.full_like(linear, 1.0 / size)
    for count in range(1, size + 1):
        for face in itertools.combinations(range(size), count):
            point = torch.zeros_like(linear)
            point[:, face] = _stationary(quadratic, linear, list(face), ridge)
            value = torch.einsum("gm,gmn,gn->g", point, quadratic, point) / 2 + (
                linear * point
            ).sum(1)
            better = (point >= 0).all(1) & (value < best)
            best = torch.where(better, value, best)
            found = torch.where(better.unsqueeze(1), point, found)
    return found


def _stationary(quadratic: Tensor, linear: Tensor, face: list[int], ridge: Tensor) -> Tensor:
    count = len(face)
    if count == 1:
        return torch.ones_like(linear[:, face])
    system = linear.new_zeros(len(linear), count + 1, count + 1)
    eye = torch.eye(count, dtype=linear.dtype, device=linear.device)
    system[:, :count, :count] = quadratic[:, face][:, :, face] + ridge.view(-1, 1, 1) * eye
    system[:, :count, count] = system[:, count, :count] = 1.0
    wanted = torch.cat([-linear[:, face], linear.new_ones(len(linear), 1)], 1)
    solution, _ = torch.linalg.solve_ex(system, wanted)
    return torch.nan_to_num(solution[:, :count], nan=-1.0)
