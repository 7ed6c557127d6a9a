"""Weights from files that others made, read without running what they hold.

Public teacher checkpoints are pickles, ``{"model": state_dict, ...}``, many in torch's format
from before 1.6 and from before batch norms counted their batches. A pickle can run any code, so
files are read by torch's restricted unpickler alone: tensors, plain containers, and the inert
values that training scripts put beside the weights (command-line namespaces, numpy scalars).
Anything else in a file is an error that names it. Every error is one line.
"""

from __future__ import annotations

import argparse
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular
from benchmark.models.containers import state_dict_of
from benchmark.models.layouts import conversion, converted

# numpy's plain kinds: truth values, numbers, texts and times, but no Python objects.
_KINDS = "?bBhHiIlLqQefdgFDGSUMm"
_COUNTER = "num_batches_tracked"


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the state_dict that a file holds, on the CPU, under its names there.

    Reads safetensors (by the suffix) and torch's two formats. Raises UserError for a file that
    is missing, truncated, foreign, holds other objects than weights, or holds no state_dict.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        content = _read(path)
    # Whatever a hostile or damaged file makes the reader raise, the file is what is wrong.
    except Exception as error:
        raise UserError(f"checkpoint {path} {unreadable(error)}") from error
    return state_dict_of(content, path)


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy ``state`` into ``model``; every key and shape must fit, or nothing is copied.

    Layouts of other projects are renamed (layouts.py); missing counters of batch norms
    (``num_batches_tracked``) count as 0. ``source`` names the file in errors. Raises UserError
    for keys, shapes (a class count that does not fit is named) or number kinds that differ, and
    for values that are not finite.
    """
    expected: dict[str, Tensor] = model.state_dict(keep_vars=True)
    given, state = state, converted(state, expected)
    missing = [k for k in expected if k not in state and k.rpartition(".")[2] != _COUNTER]
    unknown = [k for k in state if k not in expected]
    if missing or unknown:
        parts = [f"lacks {_some(missing)}"] if missing else []
        parts += [f"holds unknown {_some(unknown)}"] if unknown else []
        advice = conversion(given, expected) or (
            "save the state_dict under the network's own names (bench teachers verify tries it)"
        )
        raise UserError(
            f"checkpoint {source} does not fit the model: it {' and '.join(parts)}; {advice}"
        )
    for key, tensor in state.items():
        _check(key, tensor, expected[key], model, source)
    complete = {k: state.get(k, torch.zeros_like(v)) for k, v in expected.items()}
    model.load_state_dict(complete)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    refuse_packed(path)
    dtypes = [type(np.dtype(kind)) for kind in _KINDS]
    inert = [argparse.Namespace, np.dtype, *dtypes, type(np.float64(0)), *_numpy_scalar()]
    with torch.serialization.safe_globals(inert), warnings.catch_warnings():
        # Other pickle protocols than torch's own are read as well, with a warning.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def refuse_packed(path: Path) -> None:
    """Refuse an archive whose content is larger than itself: torch's own are not compressed.

    Before it is unpacked, which no length of the file would bound. Raises UserError, also for
    anything but a regular file.
    """
    with open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            inside = sum(entry.file_size for entry in archive.infolist())
        size = os.fstat(file.fileno()).st_size
    if inside > size:
        raise UserError(f"it is compressed, {inside:,} bytes in {size:,}, as no file of torch is")


def _numpy_scalar() -> list[Any]:
    """Return the constructor of pickled numpy scalars under both of its published names."""
    scalar = np.float64(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [(scalar, f"{module}.scalar") for module in modules]


def _check(key: str, tensor: Tensor, expected: Tensor, model: nn.Module, source: str) -> None:
    if tensor.shape != expected.shape:
        given, wanted = list(tensor.shape), list(expected.shape)
        heads: tuple[nn.Module, ...] = getattr(model, "heads", ())
        is_head = any(expected is p for head in heads for p in head.parameters())
        if is_head and given and given[1:] == wanted[1:]:
            raise UserError(
                f"checkpoint {source} is for {given[0]} classes, the model for {wanted[0]}"
            )
        raise UserError(
            f"checkpoint {source} does not fit the model: {key} has shape {given}, not {wanted}"
        )
    if tensor.is_floating_point() != expected.is_floating_point():
        raise UserError(f"checkpoint {source}: {key} is {tensor.dtype}, not {expected.dtype}")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise UserError(f"checkpoint {source}: {key} holds values that are not finite")


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(f"{key:.80}" for key in keys[:3]) + more


def unreadable(error: Exception) -> str:
    """Say in one short line why a file was not read; names the object if one was refused."""
    text = " ".join(str(error).split())
    if "GLOBAL " in text:
        name = text.split("GLOBAL ", 1)[1].split(" ")[0]
        return (
            f"holds {name}, which is no weight; files with such objects are not opened: save"
            " the weights alone, torch.save({'model': network.state_dict()}, NEW_FILE)"
        )
    said = ": ".join(filter(None, (type(error).__name__, text.split(". ")[0][:120])))
    return f"cannot be read: it is truncated, damaged or no checkpoint ({said})"
