"""Operations of ffcv's compiled pipelines that take their parameters from a table.

ffcv's own random operations draw from a generator per process. Here the thread that runs a
pipeline computes one row of integers a sample beforehand, and leaves the address of that table
in a cell; numba freezes arrays that it captures, so code reads the cell through memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from ffcv.libffcv import ctypes_memcopy
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

from benchmark.data.formats import JPEG
from benchmark.data.jpeg import decode_jpeg
from benchmark.data.randaugment_ops import NUMBERS, apply_operation
from benchmark.data.resample import resample
from benchmark.data.resized_crop import COLUMNS

Table = npt.NDArray[np.int64]


class Cell:
    """Where operations find the tables of the batch in work: rows to read, failures to fill."""

    def __init__(self) -> None:
        self._addresses = np.zeros(2, np.uint64)

    @property
    def address(self) -> int:
        """The fixed address of the two addresses."""
        return int(self._addresses.ctypes.data)

    def point(self, rows: Table, failures: Table) -> None:
        """Make ``rows`` [B, columns] and ``failures`` [B] the tables of the next batch."""
        assert rows.flags.c_contiguous
        self._addresses[:] = rows.ctypes.data, failures.ctypes.data


class CropFlipOperation(Operation):  # type: ignore[misc]
    """Cut [H, W, 3] out of images padded with zeros; rows are (top, left, flip)."""

    def __init__(self, padding: int, cell: Cell) -> None:
        super().__init__()
        self._padding, self._cell = padding, cell

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        """Ask for images like those that come in."""
        state = replace(previous_state, jit_mode=True)
        return state, AllocationQuery(state.shape, state.dtype)

    def generate_code(self) -> Callable[..., Any]:
        """Return the function that ffcv compiles."""
        iterate, padding, cell = Compiler.get_iterator(), self._padding, self._cell.address

        def crop_flip(images: Any, destination: Any) -> Any:
            num_images, height, width, _ = images.shape
            addresses = np.empty(2, np.uint64)
            rows = np.empty((num_images, 3), np.int64)
            ctypes_memcopy(cell, addresses.ctypes.data, 16)
            ctypes_memcopy(addresses[0], rows.ctypes.data, num_images * 24)
            for i in iterate(num_images):
                top, left = rows[i, 0] - padding, rows[i, 1] - padding
                for y in range(height):
                    for x in range(width):
                        from_y = y + top
                        from_x = (width - 1 - x if rows[i, 2] else x) + left
                        inside = 0 <= from_y < height and 0 <= from_x < width
                        for channel in range(3):
                            destination[i, y, x, channel] = (
                                images[i, from_y, from_x, channel] if inside else 0
                            )
            return destination[:num_images]

        crop_flip.is_parallel = True  # type: ignore[attr-defined]
        return crop_flip


class ResampledDecoder(Operation):  # type: ignore[misc]
    """Decode photographs and cut, resize and mirror them by rows of resized_crop.py.

    ffcv's own decoders keep room for the largest image of the dataset in every slot of every
    batch; here an image's pixels live as long as the image is worked on. What cannot be decoded
    is marked in the table of failures. With ``layers`` the rows go on with the operations of
    randaugment.py, whose numbers are the bits of doubles.
    """

    def __init__(self, size: int, cell: Cell, layers: int = 0) -> None:
        super().__init__()
        self._size, self._cell, self._layers = size, cell, layers

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        """Ask for square images."""
        shape, dtype = (self._size, self._size, 3), np.dtype("<u1")
        return (
            replace(previous_state, jit_mode=True, shape=shape, dtype=dtype),
            AllocationQuery(shape, dtype),
        )

    def generate_code(self) -> Callable[..., Any]:
        """Return the function that ffcv compiles."""
        iterate, cell, read = Compiler.get_iterator(), self._cell.address, self.memory_read
        layers, each = self._layers, 1 + NUMBERS
        columns = COLUMNS + layers * each

        def decode(batch_indices: Any, destination: Any, metadata: Any, storage: Any) -> Any:
            num_images = len(batch_indices)
            addresses = np.empty(2, np.uint64)
            rows = np.empty((num_images, columns), np.int64)
            failures = np.zeros(num_images, np.int64)
            ctypes_memcopy(cell, addresses.ctypes.data, 16)
            ctypes_memcopy(addresses[0], rows.ctypes.data, num_images * columns * 8)
            numbers = rows.view(np.float64)
            for i in iterate(num_images):
                field = metadata[batch_indices[i]]
                stored = read(field["data_ptr"], storage)
                height, width = np.uint32(field["height"]), np.uint32(field["width"])
                if field["mode"] == JPEG:
                    pixels = np.empty((height, width, 3), np.uint8)
                    failures[i] = decode_jpeg(stored, pixels)
                else:
                    pixels = stored.reshape(height, width, 3)
                resample(pixels, rows[i], destination[i])
                for layer in range(layers):
                    start = COLUMNS + layer * each
                    own = numbers[i, start + 1 : start + each]
                    apply_operation(destination[i], int(numbers[i, start]), own)
            ctypes_memcopy(failures.ctypes.data, addresses[1], num_images * 8)
            return destination[:num_images]

        decode.is_parallel = True  # type: ignore[attr-defined]
        return decode
