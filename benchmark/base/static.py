"""Read what a source file declares without importing it.

Planning a table needs the options of its methods and the names and versions of its models,
but not torch. The declarations are therefore read from the syntax tree: the ``Options`` class
of a method file is executed alone, with the imports it needs from torch-free modules, and
class attributes are taken where they are literals.
"""

from __future__ import annotations

import ast
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError

# Modules that an Options class may use; importing them is cheap and imports no torch.
LIGHT_MODULES = frozenset(
    {"__future__", "typing", "enum", "math", "pydantic", "benchmark.methods.options"}
)


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of ``path``; a UserError where it is not valid Python."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    """Return the classes defined at the top level, by name."""
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def literal_attributes(node: ast.ClassDef) -> dict[str, Any]:
    """Return the class attributes whose values are literals."""
    found: dict[str, Any] = {}
    for item in node.body:
        target: ast.expr
        if isinstance(item, ast.Assign) and len(item.targets) == 1:
            target, value = item.targets[0], item.value
        elif isinstance(item, ast.AnnAssign) and item.value is not None:
            target, value = item.target, item.value
        else:
            continue
        if isinstance(target, ast.Name):
            try:
                found[target.id] = ast.literal_eval(value)
            except ValueError:
                continue
    return found


def functions(node: ast.ClassDef) -> set[str]:
    """Return the names of the functions that a class body defines."""
    return {item.name for item in node.body if isinstance(item, ast.FunctionDef)}


def execute_class(path: Path, name: str) -> type:
    """Execute one class of a file, with its imports from :data:`LIGHT_MODULES`, and return it.

    Raises UserError where the class needs anything else: it must be readable without torch.
    """
    tree = parse(path)
    wanted: list[ast.stmt] = []
    for node in tree.body:
        light_import = (isinstance(node, ast.ImportFrom) and node.module in LIGHT_MODULES) or (
            isinstance(node, ast.Import) and all(a.name in LIGHT_MODULES for a in node.names)
        )
        if light_import or (isinstance(node, ast.ClassDef) and node.name == name):
            wanted.append(node)
    # pydantic resolves annotations through sys.modules, so the fragment needs a home there.
    module = types.ModuleType(f"benchmark.base.static.{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    code = compile(ast.Module(body=wanted, type_ignores=[]), str(path), "exec")
    try:
        exec(code, module.__dict__)
    except NameError as error:
        raise UserError(
            f"{path}: class {name} must be readable without torch, but {error}; "
            f"it may only use imports from {', '.join(sorted(LIGHT_MODULES))}"
        ) from error
    except Exception as error:  # whatever a class of a user's file does when it is made
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: class {name} cannot be made: {type(error).__name__}: {reason}"
        ) from error
    found = module.__dict__[name]
    assert isinstance(found, type)
    return found
