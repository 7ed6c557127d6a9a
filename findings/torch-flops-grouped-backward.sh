#!/usr/bin/env bash
# torch 2.13.0: torch.utils.flop_counter.FlopCounterMode counts the weight gradient of a grouped
# convolution as if the convolution had one group, `groups` times too much; the forward pass and the
# gradient of the images are counted right. Networks of depthwise convolutions come out with training
# steps of many times their forward pass.
#
# Expected: as many operations for the weight gradient as for the forward pass, whatever the groups:
# each product of a value and a weight there has one of that value and a gradient here.
# Seen with torch 2.13.0+cpu, operations of a 3x3 convolution of 64 channels at 8x8 pixels:
#   1 groups: forward 4718592, image gradient 4718592, weight gradient 4718592 (x 1)
#   4 groups: forward 1179648, image gradient 1179648, weight gradient 4718592 (x 4)
#   64 groups: forward 73728, image gradient 73728, weight gradient 4718592 (x 64)
# TORCH may name a wheel in place of torch==2.13.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${TORCH:-torch==2.13.0}" numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def operations(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


as_seen = True
for groups in (1, 4, 64):
    layer = torch.nn.Conv2d(64, 64, 3, padding=1, groups=groups, bias=False)
    images = torch.randn(1, 64, 8, 8, requires_grad=True)
    found = layer(images).sum()

    def gradient(of: Tensor) -> int:
        return operations(lambda: torch.autograd.grad(found, [of], retain_graph=True))

    forward = operations(lambda: layer(images))
    image, weight = gradient(images), gradient(layer.weight)
    print(f"{groups} groups: forward {forward}, image gradient {image},", end=" ")
    print(f"weight gradient {weight} (x {weight / forward:g})")
    as_seen &= image == forward and weight == groups * forward
print("torch", torch.__version__, "behaves as described" if as_seen else "behaves otherwise now")
sys.exit(not as_seen)
PYTHON
