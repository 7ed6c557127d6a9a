"""Find and read table files; a table may extend another one (``base``)."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from benchmark.base.errors import UserError, nearest, unknown
from benchmark.base.log import logger, say
from benchmark.base.shipped import shipped, user_folder
from benchmark.base.trust import changed_by_others
from benchmark.base.yamlfile import load_yaml, validate
from benchmark.table.own_teachers import beside
from benchmark.table.spec import Table

PartT = TypeVar("PartT", list[Any], dict[Any, Any])
_KINDS: dict[type, str] = {list: "list", dict: "mapping"}
PACKAGED = shipped("tables")
HERE = Path("tables")


def tables_dirs() -> list[Path]:
    """Return where tables are looked for, the first place first.

    BENCH_TABLES, ./tables, ``tables`` in the user's own folder, then this project's own.
    """
    extra, own = os.environ.get("BENCH_TABLES"), user_folder()
    places = [Path(extra)] if extra else []
    places += [HERE, *([own / "tables"] if own else []), PACKAGED]
    unique: list[Path] = []
    for place in places:
        if place.is_dir() and place.resolve() not in [p.resolve() for p in unique]:
            unique.append(place)
    return unique


def table_files() -> dict[str, Path]:
    """Return the known tables by name; an earlier place wins."""
    found: dict[str, Path] = {}
    for place in tables_dirs():
        for path in sorted(place.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def find_table(name: str, near: Path | None = None) -> Path:
    """Return the file of a table given by name or path; UserError with the nearest guess.

    ``near`` is the folder of a table that names this one as its base.
    """
    if _is_path(name):
        path = near / name if near is not None and (near / name).is_file() else Path(name)
        if not path.is_file():
            raise UserError(f"table file {path} does not exist")
        return path
    if near is not None and (near / f"{name}.yaml").is_file():
        return near / f"{name}.yaml"
    files = table_files()
    if name not in files:
        places = ", ".join(str(p) for p in tables_dirs()) or "no folder named tables"
        raise UserError(
            f"unknown table '{name}'{nearest(name, files, 0.4)}"
            f" (known: {', '.join(sorted(files)) or 'none'}; searched {places})"
        )
    _say_whose(name, files[name])
    return files[name]


@cache
def _say_whose(name: str, path: Path) -> None:
    """Say, once, if a table was found in ./tables that another user could have changed."""
    if path.parent == HERE and path.resolve().parent != PACKAGED:
        why = changed_by_others(path)
        if why is not None:
            say(f"table {name} is {path}, which another user could have changed ({why})")


def load_table(name: str) -> Table:
    """Return a table by name or path, its bases merged in.

    The further tables that its claims speak of are read too: the rows must be there.
    """
    table = _read(name)
    expected = [expect for claim in table.claims for expect in claim.expect]
    for further in table.claimed_tables:
        try:
            other = _read(further)
            for expect in (expect for expect in expected if further in expect.tables):
                if expect.metric not in other.metrics:
                    raise unknown("metric", expect.metric, other.metrics, f"table {further}")
                for row in expect.rows:
                    other.row(row)
        except UserError as error:
            raise UserError(f"claims of table {table.name}: {error}") from error
    return table


def _read(name: str) -> Table:
    path = find_table(name)
    return validate(Table, _merged(path, (), _is_path(name)), str(path))


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name


def _merged(path: Path, seen: tuple[Path, ...], chosen: bool) -> dict[str, Any]:
    """Return a table with its bases; ``chosen``: by its path, so that the user trusts it."""
    resolved = path.resolve()
    if resolved in seen:
        chain = " -> ".join(p.name for p in (*seen, resolved))
        raise UserError(f"{path}: tables extend each other in a cycle ({chain})")
    data = load_yaml(path)
    logger.debug("table file %s", path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping, got {type(data).__name__}")
    if data.get("plugins") and not chosen:
        _check_plugins_trusted(path)
    _place(data, path)
    if data.get("base") is None:
        return data
    base = str(data["base"])
    found = find_table(base, path.parent)
    # Who chose a table chose what lies beside it, but not what has its base's name elsewhere.
    chosen = chosen and (_is_path(base) or found.parent == path.parent)
    return _extend(_merged(found, (*seen, resolved), chosen), data, path)


def _check_plugins_trusted(path: Path) -> None:
    """Refuse a table found by name whose plug-ins would run, if another user could change it."""
    if path.resolve().parent == PACKAGED.resolve():
        return
    why = changed_by_others(path)
    if why is not None:
        raise UserError(
            f"table {path} brings plug-ins, which would run, and another user could have changed it"
            f" ({why}); if you trust it, name it by path: --table {path}"
        )


def _place(data: dict[str, Any], path: Path) -> None:
    """Make the paths that a table names start from the table's own folder."""
    policy = data.get("teacher")
    if isinstance(policy, dict) and isinstance(policy.get("files"), dict):
        data["teacher"] = {**policy, "files": beside(policy["files"], path.parent.absolute())}
    if isinstance(data.get("plugins"), list):
        data["plugins"] = [
            str(path.parent.absolute() / Path(item).expanduser()) if isinstance(item, str) else item
            for item in data["plugins"]
        ]


def _extend(base: dict[str, Any], data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Add rows, columns, values that the base marks unknown and files of teachers.

    Nothing else may change.
    """
    allowed = {"schema", "name", "base", "rows", "columns", "published", "title", "note", "names"}
    allowed |= {"teacher.files", "plugins"}
    policy = _part(data, "teacher", dict, path)
    data = {key: value for key, value in data.items() if key != "teacher"}
    data |= {f"teacher.{key}": value for key, value in policy.items()}
    for key in data:
        if key not in allowed:
            raise UserError(
                f"{path}: '{key}' cannot be set in a table with a base: it may only add"
                f" {', '.join(sorted(allowed - {'schema', 'base'}))}"
            )
    published = {row: dict(cells) for row, cells in _cells(base, path).items()}
    for row, cells in _cells(data, path).items():
        for column, cell in cells.items():
            known = published.get(row, {}).get(column)
            if known is not None and not _is_unknown(known):
                raise UserError(
                    f"{path}: published.{row}.{column} is known in the base table and cannot"
                    " be replaced"
                )
            published.setdefault(row, {})[column] = cell
    return {
        **base,
        **{k: data[k] for k in ("schema", "name", "base", "title", "note") if k in data},
        "rows": _joined(_part(base, "rows", list, path), _part(data, "rows", list, path)),
        "columns": [*_part(base, "columns", list, path), *_part(data, "columns", list, path)],
        "names": {**_part(base, "names", dict, path), **_part(data, "names", dict, path)},
        "published": published,
        "plugins": [*_part(base, "plugins", list, path), *_part(data, "plugins", list, path)],
        **_with_files(base, _part(data, "teacher.files", dict, path), path),
    }


def _joined(rows: list[Any], further: list[Any]) -> list[Any]:
    """Return rows with further ones, each behind the last of its group."""
    found = list(rows)
    for row in further:
        group = row.get("group") if isinstance(row, dict) else None
        same = [i for i, r in enumerate(found) if isinstance(r, dict) and r.get("group") == group]
        found.insert(same[-1] + 1 if group and same else len(found), row)
    return found


def _with_files(base: dict[str, Any], files: dict[Any, Any], path: Path) -> dict[str, Any]:
    """Return the base's policy with further files of teachers, empty if there are none."""
    if not files:
        return {}
    policy = _part(base, "teacher", dict, path)
    return {"teacher": {**policy, "files": {**(policy.get("files") or {}), **files}}}


def _part(data: dict[str, Any], key: str, kind: type[PartT], path: Path) -> PartT:
    """Return a list or mapping of a table file, empty if it is left out."""
    value = data.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise UserError(f"{path}: {key}: expected a {_KINDS[kind]}, got {type(value).__name__}")
    return value


def _cells(data: dict[str, Any], path: Path) -> dict[Any, dict[Any, Any]]:
    rows = _part(data, "published", dict, path)
    return {
        row: _part({f"published.{row}": cells}, f"published.{row}", dict, path)
        for row, cells in rows.items()
    }


def _is_unknown(cell: Any) -> bool:
    if isinstance(cell, dict) and "value" in cell:
        return cell["value"] is None
    return isinstance(cell, dict) and all(_is_unknown(c) for c in cell.values())
