#!/usr/bin/env bash
# torchdistill 1.1.5: KDLoss is documented as alpha * CE + (1 - alpha) * temperature ** 2 * KL. Where
# alpha is 0 (distillation alone, without labels) or the targets are left out it returns KL without
# the factor temperature ** 2, and ignores beta, so that the same loss is 16 times smaller at a
# temperature of 4 than with an alpha next to 0: the teacher counts for a sixteenth, without a word.
# The default of alpha, None, cannot be used without a beta: a TypeError.
#
# Expected: a loss that is continuous in alpha, as documented.
# Seen with torchdistill 1.1.5 and torch 2.13.0+cpu:
#   alpha 0.001: 0.905, alpha 1e-06: 0.903, alpha 0: 0.056 (a ratio of 16.0)
#   alpha 0 and beta 5: 0.056
#   alpha left out: TypeError: unsupported operand type(s) for -: 'int' and 'NoneType'
# TORCH may name a wheel in place of torch==2.13.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${TORCH:-torch==2.13.0}" numpy==2.4.6 \
    pyyaml==6.0.3 scipy==1.17.1
"$folder/venv/bin/pip" install --quiet --no-deps "${TORCHDISTILL:-torchdistill==1.1.5}"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torchdistill.losses.mid_level import KDLoss

torch.manual_seed(0)
student, teacher = torch.randn(8, 10), torch.randn(8, 10)
labels = torch.randint(0, 10, (8,))


def loss(**options: float) -> float:
    kd = KDLoss("fc", "output", "fc", "output", temperature=4.0, **options)
    return float(kd({"fc": {"output": student}}, {"fc": {"output": teacher}}, labels))


near, nearer, none = loss(alpha=1e-3), loss(alpha=1e-6), loss(alpha=0.0)
print(f"alpha 0.001: {near:.3f}, alpha 1e-06: {nearer:.3f}, alpha 0: {none:.3f}",
      f"(a ratio of {nearer / none:.1f})")
weighted = loss(alpha=0.0, beta=5.0)
print(f"alpha 0 and beta 5: {weighted:.3f}")
try:
    loss()
    left_out = ""
except TypeError as error:
    left_out = str(error)
print("alpha left out: TypeError:", left_out)
as_seen = abs(nearer / none - 16) < 0.01 and weighted == none and bool(left_out)
print("torchdistill", "behaves as described" if as_seen else "behaves otherwise now")
sys.exit(not as_seen)
PYTHON
