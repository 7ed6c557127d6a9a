#!/usr/bin/env bash
# torch 2.13.0 on the CPU: optimisers with fused=True walk through a parameter, its gradient and its
# state as if all lay in memory in the same order. A gradient with other strides is neither refused
# nor read by its strides: each weight gets the update of another one, without an error or warning.
# Such gradients are ordinary: torch.autograd.grad returns what the convolution's kernel wrote, which
# for channels_last images is channels_last, while the weight is contiguous. (Tensor.backward brings
# them into the parameter's form; assigning parameter.grad = gradient does not.)
#
# Expected: the same first update from the plain, foreach and fused implementations.
# Seen with torch 2.13.0+cpu on x86-64, relative error of the first update of a 3x3 convolution:
#   SGD plain 0.000, foreach 0.000, fused 1.4
#   Adagrad plain 0.000, foreach 0.000, fused 1.4
#   Adam plain 0.000, foreach 0.000, fused 1.4
#   AdamW plain 0.000, foreach 0.000, fused 1.4
# TORCH may name a wheel in place of torch==2.13.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${TORCH:-torch==2.13.0}" numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch


def first_update(optimizer: str, implementation: str, layout: torch.memory_format) -> torch.Tensor:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(16, 32, 3)  # its weight is contiguous
    images = torch.randn(8, 16, 10, 10).to(memory_format=layout)
    (gradient,) = torch.autograd.grad(layer(images).square().mean(), [layer.weight])
    layer.weight.grad = gradient.to(memory_format=layout)
    before = layer.weight.detach().clone()
    switches = {name: name == implementation for name in ("foreach", "fused")}
    getattr(torch.optim, optimizer)([layer.weight], lr=0.1, **switches).step()
    return before - layer.weight.detach()


as_seen = True
for optimizer in ("SGD", "Adagrad", "Adam", "AdamW"):
    right = first_update(optimizer, "plain", torch.contiguous_format)
    errors = {}
    for implementation in ("plain", "foreach", "fused"):
        found = first_update(optimizer, implementation, torch.channels_last)
        errors[implementation] = float((found - right).norm() / right.norm())
    print(optimizer, ", ".join(f"{name} {error:.3f}" for name, error in errors.items()))
    as_seen &= errors["plain"] < 0.01 and errors["foreach"] < 0.01 and errors["fused"] > 0.5
print("torch", torch.__version__, "behaves as described" if as_seen else "behaves otherwise now")
sys.exit(not as_seen)
PYTHON
