"""Distillation methods, one file each. Importing the package imports no torch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

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
        module_name = f"benchmark_plugin_{name}_{info.version}"
        if module_name not in sys.modules:
            spec = importlib.util.spec_from_file_location(module_name, info.path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[module_name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:  # half a module would be taken for a whole one next time
                del sys.modules[module_name]
                raise
        module = sys.modules[module_name]
    method: Method[Any] = getattr(module, method_class_name(info.path))(
        setup, module.Options(**resolved)
    )
    return method
