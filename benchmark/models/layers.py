"""Pieces that several networks share: convolutions, initialisation, the run of a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, groups=groups, bias=False)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the shortcut of a residual block whose input and output differ in shape."""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def init_convolutions(network: nn.Module) -> None:
    """Draw every convolution from N(0, 2 / (k * k * out_channels)), biases 0.

    He et al. 2015 (arXiv:1502.01852), fan-out form. Batch norms and linear layers keep
    torch's defaults (1 and 0; uniform in 1/sqrt(fan_in)).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / (kernel * module.out_channels)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def run_stage(stage: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run blocks that return their output before the last ReLU; return (after, before) it."""
    before = x
    for block in stage:
        before = block(x)
        x = F.relu(before)
    return x, before


def global_average(x: Tensor) -> Tensor:
    """Return the mean over the whole map: [B, C, H, W] -> [B, C]."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def batch_norms(*modules: object) -> tuple[nn.BatchNorm2d, ...]:
    """Return the modules, known to be batch norms: indexing a Sequential loses their type."""
    found = tuple(module for module in modules if isinstance(module, nn.BatchNorm2d))
    assert len(found) == len(modules), "every module must be a batch norm"
    return found


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape, of which there is at least one."""
    total, *others = tensors
    for other in others:
        total = total + other
    return total


def mean_head(heads: Sequence[nn.Linear]) -> nn.Linear:
    """Return one layer on the heads' inputs side by side that gives the mean of their logits.

    A detached copy: the heads themselves are trained through their own logits.
    """
    weight = torch.cat([head.weight.detach() for head in heads], dim=1) / len(heads)
    bias = sum_of([head.bias.detach() for head in heads]) / len(heads)
    # Born on the meta device: its own initialisation would draw from the global RNG.
    joined = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = nn.Parameter(bias, requires_grad=False)
    return joined
