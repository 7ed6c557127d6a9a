#!/usr/bin/env bash
# Pillow 13.0.0: Image.convert("RGB") of a 16-bit grey image clips instead of scaling. Every value
# above 255 of 65535 becomes white, without an error, so that a photograph of 16 bits is a white
# picture. It is the first line of every loader of this field (torchvision's ImageFolder and timm's
# datasets end in image.convert("RGB")), so a class of such images trains on nothing.
#
# Expected: black to white for 0 to 65535, as other tools show the file (0, 64, 128, 191, 255).
# Seen with Pillow 13.0.0 and numpy 2.4.6, a ramp of five greys saved and read again:
#   PNG  (mode I;16) gives 0, 255, 255, 255, 255
#   TIFF (mode I;16) gives 0, 255, 255, 255, 255
#   PGM  (mode I) gives 0, 255, 255, 255, 255
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${PILLOW:-pillow==13.0.0}" numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import PIL
from PIL import Image

ramp = np.array([[0, 16_384, 32_768, 49_151, 65_535]], np.uint16)
clipped = True
for suffix in ("png", "tiff", "pgm"):
    Image.fromarray(ramp).save(f"ramp.{suffix}")
    with Image.open(f"ramp.{suffix}") as image:
        mode = image.mode
        greys = [pixel[0] for pixel in np.asarray(image.convert("RGB"))[0].tolist()]
    print(f"{suffix.upper():4} (mode {mode}) gives {', '.join(map(str, greys))}")
    clipped &= greys == [0, 255, 255, 255, 255]
print("Pillow", PIL.__version__, "behaves as described" if clipped else "behaves otherwise now")
sys.exit(not clipped)
PYTHON
