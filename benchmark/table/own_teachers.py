"""Teachers of the user's own: which files a table or --teacher names, and where they lie.

A file is a path, or a published tag of timm or torchvision (``timm:resnet18.a1_in1k``,
``tv_resnet18.IMAGENET1K_V1``), whose file is looked for in the local caches of their hubs and
never downloaded (planning/own_files.py finds them). Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import model_validator

from benchmark.base.errors import UserError
from benchmark.table.recipe import Number, Strict

_TAG = re.compile(r"(timm:|tv_)[A-Za-z0-9_]+\.[A-Za-z0-9_]+")
Three = tuple[Number, Number, Number]


class OwnTeacher(Strict):
    """A teacher's file as a table names it; in the file: a path or tag alone, or with more.

    ``classes``: a file with the name of a class a line, in the order of its logits, where that
    is not the data's; ``mean`` and ``std``: what its images are normalised by, if that is not
    the data's own.
    """

    path: str
    classes: str | None = None
    mean: Three | None = None
    std: Three | None = None

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _both(self) -> OwnTeacher:
        if (self.mean is None) != (self.std is None):
            raise ValueError("`mean` and `std` go together")
        return self


class FileOfTeacher(Strict):
    """Where a teacher's file lies, and the classes that its logits stand for, where stated."""

    path: Path
    classes: tuple[str, ...] = ()


class Reads(Strict):
    """What of a teacher's numbers its file does not decide: part of the keys of its runs.

    ``classes`` is the digest of the class names that were given beside the file.
    """

    classes: str | None = None
    mean: Three | None = None
    std: Three | None = None


def is_tag(name: str) -> bool:
    """Say whether a name is a network with the published weights that its tag names."""
    return _TAG.fullmatch(name) is not None


def parse_teachers(texts: Iterable[str]) -> dict[str, OwnTeacher]:
    """Read --teacher NAME=PATH; UserError for a malformed one."""
    found = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not name.strip() or not path.strip():
            raise UserError(
                f"--teacher {text}: expected NETWORK=FILE, as in resnet56=/path/my.pth, or a tag:"
                " timm:resnet18=timm:resnet18.a1_in1k"
            )
        found[name.strip()] = OwnTeacher(path=path.strip())
    return found


def beside(files: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the ``files`` of a table with their paths made from the table's own folder."""

    def placed(text: Any) -> Any:
        if not isinstance(text, str) or is_tag(text):
            return text
        return str(folder / Path(text).expanduser())

    found: dict[str, Any] = {}
    for model, given in files.items():
        if isinstance(given, Mapping):
            paths = {key: placed(given[key]) for key in ("path", "classes") if key in given}
            found[model] = {**given, **paths}
        else:
            found[model] = placed(given)
    return found
