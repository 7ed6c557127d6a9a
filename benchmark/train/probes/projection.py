"""Singular values of every projector's weights, and how its outputs correlate with its inputs.

After the studies in Miles and Mikolajczyk 2024, "Understanding the Role of the Projector in
Knowledge Distillation" (arXiv:2303.11098): singular values through training under no, L2 and
batch normalisation, and how much a linear or non-linear map decorrelates what it is given. They do
not print how a correlation of two spaces becomes one number; here it is the mean of
|Pearson's r| over all pairs of an input's and an output's dimension.

A method shows its maps by ``projections``. Of each matrix in them the singular values are recorded
in falling order, under the parameter's name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods.base import Method
from benchmark.train.observed import Observation


def observe(seen: Observation) -> dict[str, Any] | None:
    """Return ``maps``: by method and map its singular values and the correlation."""
    inputs: dict[str, list[Tensor]] = {}
    outputs: dict[str, list[Tensor]] = {}
    maps: dict[str, nn.Module] = {}
    base = Method.projections
    shows = [(name, m) for name, m in seen.methods if type(m).projections is not base]
    for batch in seen.batches if shows else ():
        with torch.no_grad(), seen.student.autocast():
            features = seen.features(batch)
            for name, method in shows:
                for of, (given, module) in method.projections(features).items():
                    maps[f"{name}.{of}"] = module
                    inputs.setdefault(f"{name}.{of}", []).append(given.float())
                    outputs.setdefault(f"{name}.{of}", []).append(module(given).float())
    found = {
        name: {
            "singular_values": singular_values(module),
            "correlation": correlation(torch.cat(inputs[name]), torch.cat(outputs[name])),
        }
        for name, module in maps.items()
    }
    return {"maps": found} if found else None


def singular_values(module: nn.Module) -> dict[str, list[float]]:
    """Return the singular values of every matrix of a module by name, to six digits."""
    matrices = {name: p.detach() for name, p in module.named_parameters() if p.ndim == 2}
    found = {name: torch.linalg.svdvals(matrix.double().cpu()) for name, matrix in matrices.items()}
    return {name: [float(f"{v:.6g}") for v in values.tolist()] for name, values in found.items()}


def correlation(inputs: Tensor, outputs: Tensor) -> float:
    """Return the mean of |r| over pairs of dimensions of [N, D] and [N, E].

    A dimension that never moves correlates with nothing.
    """
    ours, theirs = (_standardised(part.double()) for part in (inputs, outputs))
    return float((ours.T @ theirs / len(ours)).abs().mean())


def _standardised(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    deviation = centred.square().mean(0).sqrt()
    return torch.where(deviation > 0, centred / deviation.clamp_min(1e-30), 0.0)
