#!/usr/bin/env bash
# timm 1.0.31 with Pillow 13.0.0: the RandAugment of DeiT's recipe, rand-m9-mstd0.5-inc1, draws its
# magnitude from a normal distribution of mean 9, cut off at 10. At 10 `PosterizeIncreasing` keeps
# 4 - int(10 / 10 * 4) = 0 bits. Older versions of Pillow made a black image of that; 13 takes 1 to 8
# bits alone, and ImageOps.posterize raises ValueError in the middle of an epoch.
#
# Expected: every magnitude that the recipe can draw is one that its operations take.
# Seen with timm 1.0.31 and numpy 2.4.1, of 20,000 images:
#   Pillow 12.0.0: 0 raise, 0 bits give the values [0]
#   Pillow 13.0.0: 29 raise ValueError: bits must be between or equal to 1 and 8
# timm's file is loaded by its path, since timm's package needs torch and this file does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/augment.py" <<'PYTHON'
import importlib.util
import random
import site
import sys
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps

(file,) = (p for d in site.getsitepackages() for p in Path(d).glob("timm/data/auto_augment.py"))
spec = importlib.util.spec_from_file_location("auto_augment", file)
auto_augment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(auto_augment)

random.seed(0)
np.random.seed(0)
augment = auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", {})
image = Image.fromarray(np.random.randint(0, 256, (8, 8, 3), np.uint8))
raised = []
for _ in range(20_000):
    try:
        augment(image)
    except ValueError as error:
        raised.append(str(error))
said = f" ValueError: {raised[0]}" if raised else ""
print(f"Pillow {PIL.__version__}: {len(raised)} raise{said}")
if not raised:
    print("  0 bits give the values", np.unique(np.asarray(ImageOps.posterize(image, 0))))
expected = PIL.__version__.startswith("13.")
sys.exit(bool(raised) != expected)
PYTHON
as_seen=true
for pillow in 12.0.0 13.0.0; do
    "${PYTHON:-python3}" -m venv "$folder/$pillow"
    "$folder/$pillow/bin/pip" install --quiet --no-deps "${TIMM:-timm==1.0.31}" "pillow==$pillow" numpy==2.4.1
    "$folder/$pillow/bin/python" "$folder/augment.py" || as_seen=false
done
$as_seen && echo "timm with Pillow behaves as described" || echo "timm with Pillow behaves otherwise now"
$as_seen
