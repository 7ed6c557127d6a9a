"""One image file as it is stored: its own JPEG bytes, or pixels, or a JPEG made of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from benchmark.base.errors import UserError
from benchmark.data.formats import JPEG, MAX_SIDE, RAW, Sample
from benchmark.data.sidecar import WriteSettings
from benchmark.data.sources.listing import Listing, shown

_JPEG_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_BITS_A_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF
_SAMPLE_FORMAT, _SIGNED = 339, 2  # of TIFF
_ORIENTATION, _UPRIGHT = 274, 1  # of EXIF
_UNKNOWN_RANGE = {"I": "32-bit integers", "F": "floating-point numbers"}


def encode(path: Path, label: int, write: WriteSettings) -> Sample:
    """Return one image file as it is stored.

    A JPEG that needs no change keeps its bytes; others (other formats, CMYK, longer than
    ``max_resolution``) are encoded at ``jpeg_quality``. Sizes are reduced by averaging areas, as
    FFCV's writer does, but the longest side becomes ``max_resolution`` exactly. 16 bits a pixel
    are scaled to 8. With ``side`` the short side is scaled to it, and the middle is cut. An
    orientation that EXIF names is not applied, as torchvision's ImageFolder does not, and so no
    published loader; the sample says so, and a JPEG that keeps its bytes keeps it. Every image is
    decoded once, so a broken one is found here.

    Raises UserError, by name, for what cannot be decoded, pixels whose range nobody knows (32-bit
    integers, floating-point numbers) and sides that the storage cannot hold.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            width, height = size = _stored_size(image.size, write)
            keep = image.format == "JPEG" and image.mode in ("RGB", "L") and size == image.size
            turned = image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
            if write.storage == "jpeg" and keep:
                return Sample(data, height, width, label, JPEG, turned)
            rgb = _eight_bits(image, path).convert("RGB")
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow's plug-ins raise any kind for broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot decode {shown(path)}: {reason}") from error
    longest = MAX_SIDE if write.storage == "raw" else _JPEG_SIDE
    if max(size) > longest:
        raise UserError(
            f"{shown(path)} is {width:,} x {height:,} pixels, and {write.storage} storage holds"
            f" at most {longest:,} a side; write smaller ones with --max-resolution"
        )
    if size != rgb.size and write.side is not None:
        rgb = ImageOps.fit(rgb, size, Image.Resampling.BICUBIC)
    elif size != rgb.size:
        rgb = rgb.resize(size, Image.Resampling.BOX)
    if write.storage == "raw":
        return Sample(rgb.tobytes(), height, width, label, RAW, turned)
    assert write.jpeg_quality is not None
    buffer = io.BytesIO()
    try:
        rgb.save(buffer, "JPEG", quality=write.jpeg_quality)
    except OSError as error:
        raise UserError(f"cannot store {shown(path)} as JPEG: {error}") from error
    return Sample(buffer.getvalue(), height, width, label, JPEG, turned)


def largest(listing: Listing, write: WriteSettings, workers: int) -> Iterator[int]:
    """Yield at least how many bytes each image takes as it is stored.

    Only raw storage depends on what is in a file: its header is read then. An image that is
    encoded anew takes fewer bytes than its pixels.
    """
    if write.storage == "jpeg":
        yield from listing.sizes
        return
    with ThreadPoolExecutor(workers) as pool:
        paths = (path for path, _ in listing.images)
        yield from pool.map(partial(_raw_bytes, write=write), paths)


def _raw_bytes(path: Path, write: WriteSettings) -> int:
    try:
        with Image.open(path) as image:
            width, height = _stored_size(image.size, write)
    except Exception:  # said by :func:`encode`, which comes to every file
        return 0
    return width * height * 3


def _stored_size(size: tuple[int, int], write: WriteSettings) -> tuple[int, int]:
    """Return (width, height) as they are stored: in whole numbers, since fractions miss by one."""
    if write.side is not None:
        return write.side, write.side
    longest, limit = max(size), write.max_resolution
    if limit is None or longest <= limit:
        return size
    width, height = (max(1, side * limit // longest) for side in size)
    return width, height


def _tiff_range(image: Image.Image) -> tuple[int, bool]:
    """Return the value at the end of a 16-bit image's range, and whether that is black.

    Pillow gives the numbers of a TIFF as they are, of 12 bits a pixel too, and inverts those of 8
    bits alone where 0 is white.
    """
    tags = _tags(image)
    (bits, *_) = tags.get(_BITS_A_SAMPLE, (16,))
    return (1 << bits) - 1, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """Return what a TIFF says of itself; nothing for other formats."""
    return getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}


def _unknown_range(image: Image.Image) -> str | None:
    """Say what an image holds of which nobody knows what is white, None if all is known."""
    tags = _tags(image)
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()):  # Pillow takes those of 8 bits for unsigned ones
        return f"signed {tags.get(_BITS_A_SAMPLE, (1,))[0]}-bit integers"
    return _UNKNOWN_RANGE.get(image.mode)


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Return an image that Pillow converts to RGB without clipping its values to white."""
    # Pillow gives 16 bits a pixel of a PGM as 32, and so its older versions those of a PNG.
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")):
        white, inverted = _tiff_range(image)
        wide = image.convert("I")
        grey = wide.point(lambda value: value * (255 / white) + 0.5).convert("L")
        return ImageOps.invert(grey) if inverted else grey
    unknown = _unknown_range(image)
    if unknown is not None:
        raise UserError(
            f"{shown(path)} holds {unknown}, and nothing says what is white;"
            " convert it to 8 or 16 bits without a sign first"
        )
    return image
