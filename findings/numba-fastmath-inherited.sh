#!/usr/bin/env bash
# numba 0.68.1: a function compiled by a plain @njit takes over the fast-math of whoever calls it
# first, and keeps it for every later caller, plain Python included. The same call of the same
# function then returns other numbers in one process than in another, without an error.
# It meets this field through ffcv, whose pipelines are compiled with fastmath=True: a pixel
# operation that is tested alone rounds as Python does, and otherwise once it has run in a loader.
#
# Expected: strict rounding for a function that does not ask for fast-math, as numba's documentation
# says of fastmath=False being the default.
# Seen with numba 0.68.1, over 7,700 calls of one function, int(v * s + -l * s):
#   plain: 0 of 7700 differ    (called by Python first)
#   fast : 32 of 7700 differ   (called by a fast-math function first, then by Python)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${NUMBA:-numba==0.68.1}"
cat > "$folder/run.py" <<'PYTHON'
import sys

from numba import njit


@njit
def scaled(value, low, scale):
    return int(value * scale + -low * scale)


@njit(fastmath=True)
def caller(value, low, scale):
    return scaled(value, low, scale)


if sys.argv[1] == "fast":
    caller(1.0, 0.0, 1.0)
different = total = 0
for low in range(40):
    scale = 255.0 / (211 - low)
    for value in range(low, 212):
        total += 1
        expected = int(float(value) * scale + -float(low) * scale)
        different += scaled(float(value), float(low), scale) != expected
print(f"{sys.argv[1]:5}: {different} of {total} differ")
sys.exit(different > 0)
PYTHON
"$folder/venv/bin/python" "$folder/run.py" plain && plain=0 || plain=1
"$folder/venv/bin/python" "$folder/run.py" fast && fast=0 || fast=1
[ "$plain" = 0 ] && [ "$fast" = 1 ] && { echo "numba behaves as described"; exit 0; }
echo "numba behaves otherwise now"
exit 1
