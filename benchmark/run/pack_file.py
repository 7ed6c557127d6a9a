"""Runs for one process, as its job reads them: the record that travels farthest.

Imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from benchmark.base.errors import UserError
from benchmark.base.yamlfile import validate
from benchmark.run.identity import SCHEMA, Run
from benchmark.table.own_teachers import FileOfTeacher
from benchmark.table.recipe import Grown

Reader = Literal["resident", "ffcv"]


class PackFile(Grown):
    """A pack as a job reads it. ``keys``, ``cells``: of its runs, in their order.

    ``files``: where the user's own teachers lie, by sha256. ``fills``: the runs are not trained,
    and have no keys here; their teacher is asked what they would ask it.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    id: str
    table: str
    label: str
    depends: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    keys: tuple[str, ...]
    cells: tuple[str, ...]
    runs: tuple[Run, ...]
    runs_dir: Path
    data_dir: Path
    reader: Reader | None = None
    files: dict[str, FileOfTeacher] = {}
    fills: bool = False
    later: ClassVar[frozenset[str]] = frozenset({"files", "fills"})

    def text(self) -> str:
        """Return the file's text: JSON in one line."""
        return json.dumps(
            self.model_dump(mode="json", by_alias=True), allow_nan=False, separators=(",", ":")
        )


def read_pack(text: str | bytes, where: str) -> PackFile:
    """Return a pack from a file's text.

    Raises UserError that starts with ``where`` if the text is broken or another version's.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    if isinstance(data, dict) and data.get("schema") != SCHEMA:
        raise UserError(
            f"{where}: the pack has schema {data.get('schema')}, this version reads {SCHEMA};"
            " submit the table again"
        )
    file = validate(PackFile, data, where)
    for run, key in zip(() if file.fills else file.runs, file.keys, strict=True):
        if run.key != key:
            raise UserError(
                f"{where}: another version of bench planned {key}, this one calls it {run.key};"
                " submit the table again"
            )
    return file
