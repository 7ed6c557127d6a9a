"""Losses of deep mutual learning, of whichever form; see dml.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods._peers import divergence, divergence_from, mean_of_others
from benchmark.methods._precision import full_precision

Target = Literal["pairwise", "ensemble", "logits", "symmetric"]


@full_precision
def mutual_loss(
    logits: Sequence[Tensor],
    own: int,
    temperature: float = 1.0,
    target: Target = "pairwise",
    *,
    total: bool = False,
    detach: bool = True,
    epsilon: float = 0.0,
) -> Tensor:
    """Return what network ``own`` learns from its peers, of all networks' logits [B, K].

    ``total`` sums over the peers if the paper takes their mean; ``epsilon`` is for averaged
    logits alone.
    """
    student = logits[own]
    seen = [z.detach() if detach else z for z in logits]
    if target == "ensemble":
        others = [F.softmax(z / temperature, 1) for i, z in enumerate(seen) if i != own]
        return divergence_from(student, torch.stack(others).mean(0), temperature)
    if target == "logits":
        return divergence(student, mean_of_others(seen, own), temperature, epsilon)
    terms = []
    for i, z in enumerate(seen):
        if i == own:
            continue
        term = divergence(student, z, temperature)
        if target == "symmetric":
            term = (term + divergence(z, student, temperature)) / 2
        terms.append(term)
    summed = torch.stack(terms).sum()
    return summed if total else summed / len(terms)
