"""Read what a source file declares without importing it.

Planning a table needs the options of its methods and the names and versions of its models,
but not torch. The declarations are therefore read from the syntax tree: the ``Options`` class
of a method file is executed alone, with the imports it needs from torch-free modules, and
class attributes are taken if they are literals.
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
    """Return the syntax tree of ``path``; a UserError if it is not valid Python."""
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


def lineage(path: Path, name: str, root: str) -> list[tuple[Path, ast.ClassDef]] | None:
    """Return a class of a file and all classes that it extends, itself first, but for ``root``.

    Bases are followed within the file and into files of this package that it imports them from.
    None if no base leads to a class named ``root``.
    """
    tree = parse(path)
    here = classes(tree)
    if name not in here:
        home = home_of(tree, name)
        return None if home is None else lineage(*home, root)
    found: list[tuple[Path, ast.ClassDef]] = [(path, here[name])]
    reaches = False
    for base in _base_names(here[name]):
        if base.rpartition(".")[2] == root and base not in here:
            reaches = True
            continue
        home = (path, base) if base in here else home_of(tree, base)
        above = None if home is None else lineage(*home, root)
        if above is not None:
            reaches = True
            found += above
    return found if reaches else None


def _base_names(node: ast.ClassDef) -> list[str]:
    """Return the dotted names of a class's bases, without what stands in brackets."""
    bases = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    return [ast.unparse(base) for base in bases]


def home_of(tree: ast.Module, name: str) -> tuple[Path, str] | None:
    """Return the file of this package that ``name`` is imported from, and its name there.

    ``name`` may be a class or ``module.Class``; None for what comes from elsewhere.
    """
    module, _, attribute = name.rpartition(".")
    for node in tree.body:
        for alias in node.names if isinstance(node, ast.ImportFrom | ast.Import) else ():
            known = alias.asname or alias.name
            origin = alias.name
            if isinstance(node, ast.ImportFrom):
                if node.level or node.module is None:
                    continue
                if not module and known == name:
                    file = _file_of(node.module)
                    return None if file is None else (file, alias.name)
                origin = f"{node.module}.{alias.name}"
            if module and known == module and (file := _file_of(origin)) is not None:
                return file, attribute
    return None


_PACKAGE = Path(__file__).resolve().parents[1]


def _file_of(module: str) -> Path | None:
    package, *parts = module.split(".")
    if package != _PACKAGE.name or not parts:
        return None
    path = _PACKAGE.joinpath(*parts).with_suffix(".py")
    return path if path.is_file() else None


def execute_class(path: Path, name: str) -> type:
    """Execute one class of a file, with its imports from :data:`LIGHT_MODULES`, and return it.

    Classes that it extends, in the file or imported from others of this package, are executed
    before it. Raises UserError if it needs anything else: it must be readable without torch.
    """
    tree = parse(path)
    here = classes(tree)
    if name not in here:
        home = home_of(tree, name)
        if home is None:
            raise UserError(f"{path} defines no class {name}")
        return execute_class(*home)
    # pydantic resolves annotations through sys.modules, so the fragment needs a home there.
    module = types.ModuleType(f"benchmark.base.static.{path.stem}")
    module.__file__ = str(path)
    needed = _with_bases(here, name)
    wanted: list[ast.stmt] = []
    for node in tree.body:
        light_import = (isinstance(node, ast.ImportFrom) and node.module in LIGHT_MODULES) or (
            isinstance(node, ast.Import) and all(a.name in LIGHT_MODULES for a in node.names)
        )
        if light_import or (isinstance(node, ast.ClassDef) and node.name in needed):
            wanted.append(node)
    for base in {base for one in needed for base in _base_names(here[one])}:
        home = home_of(tree, base)
        if home is not None and home[0] not in _LIGHT_FILES and "." not in base:
            module.__dict__[base] = execute_class(*home)
    return _executed(path, name, wanted, module)


def _with_bases(here: dict[str, ast.ClassDef], name: str) -> set[str]:
    found = {name}
    for base in _base_names(here[name]):
        if base in here and base not in found:
            found |= _with_bases(here, base)
    return found


_LIGHT_FILES = frozenset(filter(None, map(_file_of, LIGHT_MODULES)))


def _executed(path: Path, name: str, wanted: list[ast.stmt], module: types.ModuleType) -> type:
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
