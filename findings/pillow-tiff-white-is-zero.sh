#!/usr/bin/env bash
# Pillow 13.0.0: a grey TIFF whose PhotometricInterpretation is 0 (WhiteIsZero) is turned into
# Pillow's convention, 0 = black, where it has 8 bits a sample, and is not where it has 16: the same
# picture comes out as itself or as its negative. Samples of 12 bits are given as they are in mode
# I;16, whose range is 65,535, so that white is 4,095.
#
# Expected: the same picture whatever its depth; a range that can be told from the mode.
# Seen with Pillow 13.0.0, of a black, a grey and a white pixel:
#   8 bits, white is zero: [0, 128, 255]
#   16 bits, white is zero: [65535, 32767, 0]
#   12 bits, black is zero: mode I;16, [0, 2048, 4095]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${PILLOW:-pillow==13.0.0}"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys

import PIL
from PIL import Image


def tiff(data, count, bits, photometric):
    """Return a grey TIFF of one line."""
    entries = [(256, count), (257, 1), (258, bits), (259, 1), (262, photometric)]
    entries += [(273, 8), (277, 1), (278, 1), (279, len(data))]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    return head + struct.pack("<H", len(entries)) + directory + bytes(4)


def pixels(content):
    image = Image.open(io.BytesIO(content))
    return image.mode, [image.getpixel((x, 0)) for x in range(image.width)]


eight = pixels(tiff(bytes([255, 127, 0]), 3, 8, 0))
sixteen = pixels(tiff(struct.pack("<3H", 65535, 32767, 0), 3, 16, 0))
twelve = pixels(tiff(int("000800fff000", 16).to_bytes(6, "big"), 4, 12, 1))
print("8 bits, white is zero:", eight[1])
print("16 bits, white is zero:", sixteen[1])
print("12 bits, black is zero: mode", twelve[0], twelve[1][:3])
as_seen = (
    eight[1] == [0, 128, 255]
    and sixteen[1] == [65535, 32767, 0]
    and twelve == ("I;16", [0, 2048, 4095, 0])
)
print("Pillow", PIL.__version__, "as described" if as_seen else "behaves otherwise now")
sys.exit(not as_seen)
PYTHON
