"""Decode JPEG in compiled code, to the bytes that Pillow gives.

ffcv decodes with the fast, inexact DCT: its pixels are 1.1 grey levels off on average and 0.8 too
dark. The same library, asked for its accurate DCT, costs no more time and gives Pillow's bytes.
It is reached through ffcv's own extension, which links it.
"""

from __future__ import annotations

import ctypes

import ffcv._libffcv
import numpy as np
import numpy.typing as npt

from benchmark.data.compiled import exact

_library = ctypes.CDLL(ffcv._libffcv.__file__)
_create = _library.tjInitDecompress
_create.argtypes, _create.restype = [], ctypes.c_void_p
_destroy = _library.tjDestroy
_destroy.argtypes, _destroy.restype = [ctypes.c_void_p], ctypes.c_int
_error = _library.tjGetErrorCode
_error.argtypes, _error.restype = [ctypes.c_void_p], ctypes.c_int
_decompress = _library.tjDecompress2
_decompress.restype = ctypes.c_int
_decompress.argtypes = [
    ctypes.c_void_p,  # handle
    ctypes.c_void_p,  # JPEG bytes
    ctypes.c_ulong,  # how many
    ctypes.c_void_p,  # pixels
    ctypes.c_int,  # width
    ctypes.c_int,  # bytes a row, 0: no gaps
    ctypes.c_int,  # height
    ctypes.c_int,  # pixel format
    ctypes.c_int,  # flags
]
_RGB, _ACCURATE_DCT, _FATAL = 0, 4096, 1


@exact
def decode_jpeg(stored: npt.NDArray[np.uint8], pixels: npt.NDArray[np.uint8]) -> int:
    """Fill ``pixels`` [H, W, 3] from the bytes of a JPEG of that size; return 1 on failure.

    Warnings (stray bytes between markers, which Pillow accepts too) are no failure.
    """
    handle = _create()
    height, width, _ = pixels.shape
    failed = _decompress(
        handle,
        stored.ctypes.data,
        stored.size,
        pixels.ctypes.data,
        width,
        0,
        height,
        _RGB,
        _ACCURATE_DCT,
    )
    fatal = 0
    if failed != 0 and _error(handle) == _FATAL:
        fatal = 1
    _destroy(handle)
    return fatal
