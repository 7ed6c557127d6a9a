"""Distillation methods, one file each. Importing the package imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from benchmark.base.plugin_file import load_file
from benchmark.methods.catalog import method_class_name, method_info

if TYPE_CHECKING:
    from benchmark.methods.base import Method, Setup

__all__ = ["build_method"]


def build_method(name: str, setup: Setup, **options: Any) -> Method[Any]:
    """Build the method ``name`` for one student, with its options checked.

    Raises UserError for an unknown method or option.
    """
    info = method_info(name)
    resolved = info.resolve(options)
    if info.path.parent.samefile(__path__[0]):
        module = importlib.import_module(f"{__name__}.{name}")
    else:
        module = load_file(info.path)
    method: Method[Any] = getattr(module, method_class_name(info.path))(
        setup, module.Options(**resolved)
    )
    return method
