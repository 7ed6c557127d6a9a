#!/usr/bin/env bash
# ffcv 1.0.2: RGBImageField(max_resolution=N) bounds the longest side of stored images. It multiplies
# both sides by the float N / longest and cuts the fraction off, so that N / longest * longest, which
# is a hair below N for many sizes, is stored as N - 1.
#
# Expected: an image that is larger than N is stored with a longest side of N.
# Seen with ffcv 1.0.2, numpy 2, max_resolution=256, square images written by DatasetWriter:
#   23 of 344 sizes are stored with a side of [255]: 322, 347, 374, 389, 392, 394, 412, 417, ...
# It builds from source and needs what its README names: pkg-config, a C++ compiler, libturbojpeg and
# OpenCV's headers; TORCH may name a wheel of the torch that it needs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet setuptools==84.2.1 wheel==0.48.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet "${TORCH:-torch==2.13.0}" "${FFCV:-ffcv==1.0.2}" pillow==13.0.0
cd "$folder"
cat > write.py <<'PYTHON'
import sys
import warnings

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


class Squares:
    """Grey squares of 257 to 600 pixels a side, with their side as the label."""

    sides = range(257, 601)

    def __len__(self):
        return len(self.sides)

    def __getitem__(self, index):
        side = self.sides[index]
        return np.full((side, side, 3), 128, np.uint8), side


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    fields = {"image": RGBImageField(write_mode="raw", max_resolution=256), "side": IntField()}
    DatasetWriter("squares.beton", fields, num_workers=1).from_indexed_dataset(Squares())
    rows = Reader("squares.beton").metadata
    stored = dict(zip(rows["f1"].tolist(), rows["f0"]["width"].tolist(), strict=True))
    short = sorted(side for side, width in stored.items() if width != 256)
    print(f"{len(short)} of {len(stored)} sizes are stored with a side of",
          f"{sorted({stored[side] for side in short})}: {', '.join(map(str, short[:8]))}, ...")
    as_seen = bool(short) and {stored[side] for side in short} == {255}
    print("ffcv", "behaves as described" if as_seen else "behaves otherwise now")
    sys.exit(not as_seen)
PYTHON
"$folder/venv/bin/python" write.py
