"""Read pickles of images, CIFAR's and alike, without running what they say.

A pickle can call any function that it names. The official files name three: numpy's ndarray,
dtype and the function that puts arrays together; files written by Python 3 may name the decoder
of byte strings too. Only these names are known here, and none of them reaches numpy: they are
inert stand-ins that keep bytes, and the array is made from the bytes after they were checked.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular

_LARGEST = 16 << 30  # bytes; the official files have a hundredth of it
_NUMBERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


class _Dtype:
    """Stands in for numpy.dtype; only whole numbers are accepted."""

    def __init__(self, code: object, *_: object) -> None:
        self._code = _text(code)
        self._order = "="
        if self._code not in _NUMBERS:
            raise pickle.UnpicklingError(f"arrays must be of whole numbers, not {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order."""
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("unexpected byte order")
        self._order = order

    def read(self, data: bytes | bytearray, shape: Any, order: Literal["F", "C"]) -> Any:
        """Return the array of these bytes."""
        found = np.frombuffer(data, np.dtype(self._order + self._code))
        return found.reshape(shape, order=order)


class _Array:
    """Stands in for numpy.ndarray while a pickle is read."""

    values: npt.NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_major, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("unexpected array")
        self.values = dtype.read(data, shape, "F" if column_major else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(data: object, dtype: object, shape: object, order: object, *_: object) -> _Array:
    # How numpy pickles by protocol 5.
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("unexpected array")
    array = _Array()
    array.values = dtype.read(data, shape, "F" if _text(order) == "F" else "C")
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
}


class _CifarUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no dataset needs")
        return _KNOWN[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary of one file; arrays are stand-ins (see :func:`read_arrays`).

    Raises UserError for a file that is missing, truncated, no pickle, or asks for anything but
    plain data.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST:
                raise UserError(f"{path} has {size:,} bytes: no pickle of images is so large")
            content = _CifarUnpickler(file, encoding="bytes").load()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UserError:
        raise
    except (
        # What the unpickler raises on broken input, by its documentation and by fuzzing.
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        why = str(error) or type(error).__name__
        raise UserError(f"{path} is no intact pickle of images: {why}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no dictionary of images: it holds a {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the dictionary of a pickle with arrays of whole numbers, lists and names.

    Raises UserError as :func:`read_pickle` does.
    """
    return {
        key: getattr(value, "values", None) if isinstance(value, _Array) else value
        for key, value in read_pickle(path).items()
    }


def read_images(
    path: Path, label_key: str, num_classes: int
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Return the images [N, 32, 32, 3] uint8 and the N labels of one CIFAR file.

    Raises UserError if the file holds anything else.
    """
    content = read_pickle(path)
    array, labels = content.get("data"), content.get(label_key)
    if not isinstance(array, _Array) or not isinstance(labels, list):
        raise UserError(f"{path} is no CIFAR file: it lacks 'data' or '{label_key}'")
    pixels = getattr(array, "values", None)
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
        raise UserError(f"{path} is no CIFAR file: its images are not 32x32 RGB")
    if len(labels) != len(pixels):
        raise UserError(f"{path} holds {len(pixels)} images but {len(labels)} labels")
    if not all(isinstance(label, int) and 0 <= label < num_classes for label in labels):
        raise UserError(f"{path} holds labels outside 0 to {num_classes - 1}")
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def read_names(path: Path, key: str, num_classes: int) -> tuple[str, ...]:
    """Return the class names of CIFAR's meta file, or numbers where that file is not there."""
    if not path.is_file():
        return tuple(str(number) for number in range(num_classes))
    names = read_pickle(path).get(key)
    if not isinstance(names, list) or len(names) != num_classes:
        raise UserError(f"{path} does not name {num_classes} classes")
    return tuple(_text(name) for name in names)
