"""A run: one network, how it is trained, and one seed. Its key hashes all that moves its numbers.

Everything in a :class:`Run` is known before any data or teacher exists. Pack, executor,
cluster and paths are not in it, so they cannot change a key. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from benchmark.table.own_data import OwnData
from benchmark.table.own_teachers import Reads
from benchmark.table.recipe import Count, Grown, Number, Positive, Recipe, Strict

SCHEMA = 1
# Raised whenever a change of the training loop moves numbers (CHANGELOG.md says which).
ENGINE_VERSION = 2


class DatasetRef(Grown):
    """A dataset by name and the digest of its decoded content in index order.

    ``own``: what else decides numbers, of data that the user wrote.
    """

    name: str
    digest: str
    own: OwnData | None = None
    later: ClassVar[frozenset[str]] = frozenset({"own"})


class MethodRef(Strict):
    """A method with all its options resolved, and the version of its numbers."""

    name: str
    version: int | str
    options: dict[str, Any]


class TeacherRef(Grown):
    """A teacher: a checkpoint (``key`` is its sha256), public or the user's own, or a run of ours.

    ``reads`` is there for a file of the user's own (``source: file``).

    ``input_size`` is there if it reads images of another size than its students: the side, or
    ``data`` for images as the data set has them.
    """

    model: str
    source: Literal["registry", "train", "file"]
    key: str
    input_size: Positive | Literal["data"] | None = None
    reads: Reads | None = None
    later: ClassVar[frozenset[str]] = frozenset({"input_size", "reads"})


class Run(Grown):
    """A cell with a seed.

    ``model`` is the network that is trained; with ``weights`` (the sha256 of a public
    checkpoint, or with ``reads`` of the user's own) it is only evaluated. ``predict`` names the
    method whose prediction is used if several bring one, ``reported`` the output that the
    table prints if it is not the methods' own choice; ``pair`` is the architecture of the
    column's teacher, if a method builds one of its kind. ``versions`` holds the engine's, the
    augmentation's and the networks' own.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    dataset: DatasetRef
    model: str
    weights: str | None = None
    teacher: TeacherRef | None = None
    methods: tuple[MethodRef, ...] = ()
    ce_weight: Number | None = None
    predict: str | None = None
    reported: str | None = None
    pair: str | None = None
    recipe: Recipe
    seed: Count
    versions: dict[str, int | str]
    reads: Reads | None = None
    later: ClassVar[frozenset[str]] = frozenset({"reported", "pair", "reads"})

    @property
    def identity(self) -> dict[str, Any]:
        """What the key hashes, as plain JSON values."""
        return identity_of(self.to_json())

    @property
    def cell_identity(self) -> dict[str, Any]:
        """The identity without what differs between seeds."""
        return cell_identity_of(self.identity)

    @property
    def teacher_input_size(self) -> int | None:
        """The side of the images that the teacher reads, None for images as the data has them."""
        own = None if self.teacher is None else self.teacher.input_size
        if own == "data":
            return None
        return own or self.recipe.input_size

    @property
    def slug(self) -> str:
        """A readable name: dataset, teacher, network and methods."""
        return slug_of(self.to_json())

    @cached_property
    def key(self) -> str:
        """The run's name on disk: the slug, the seed, and a hash of the identity."""
        data = self.to_json()
        return f"{slug_of(data)}-s{self.seed}-{digest(identity_of(data))}"

    @cached_property
    def cell_key(self) -> str:
        """The cell's name: the same for every seed."""
        data = self.to_json()
        return f"{slug_of(data)}-{digest(cell_identity_of(identity_of(data)))}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Run:
        """Return a changed copy, without the cached keys of this one."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("key", "cell_key"):
            copied.__dict__.pop(name, None)
        return copied

    def to_json(self) -> dict[str, Any]:
        """Return the run as it is written to cell.json and to packs."""
        return self.model_dump(mode="json", by_alias=True)


def identity_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the key of a run's JSON hashes; nothing is validated.

    A field that is new leaves the keys of older runs as they are if it is taken out here while
    it has its default.
    """
    # How this is written to a file moves no number.
    found = {name: value for name, value in data.items() if name != "schema"}
    found["recipe"] = {k: v for k, v in data["recipe"].items() if k not in Recipe.unhashed}
    return found


def cell_identity_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity without what differs between seeds."""
    found = {name: value for name, value in identity.items() if name != "seed"}
    teacher = found["teacher"]
    if teacher is not None and teacher["source"] == "train":
        found["teacher"] = {name: value for name, value in teacher.items() if name != "key"}
    return found


def slug_of(identity: Mapping[str, Any]) -> str:
    """Return the readable part of a key: dataset, teacher, network and methods."""
    teacher, methods = identity["teacher"], identity["methods"]
    parts = [identity["dataset"]["name"]]
    parts += [teacher["model"]] if teacher else []
    parts += [identity["model"]]
    parts += ["+".join(method["name"] for method in methods)] if methods else []
    parts += ["eval"] if identity["weights"] else []
    return re.sub(r"[^A-Za-z0-9_+.-]", "_", "-".join(parts))[:120]


def digest(data: Any) -> str:
    """Return a short hash of JSON values, independent of the order of keys."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def differences(ours: Any, theirs: Any, prefix: str = "") -> dict[str, Any]:
    """Return where ``theirs`` differs from ``ours``: dotted path to its value.

    Used to name overrides: a run that differs from a table's own only in its recipe is the
    same slot with overrides.
    """
    if isinstance(ours, list) and isinstance(theirs, list) and _named(ours) == _named(theirs):
        if not _named(ours):
            return {} if ours == theirs else {prefix: theirs}
        # The methods of a run: compared one by one, under their names.
        pairs = zip(ours, theirs, strict=True)
        return {k: v for a, b in pairs for k, v in differences(a, b, a["name"]).items()}
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found: dict[str, Any] = {}
        for name in sorted({*ours, *theirs}):
            if ours.get(name) == theirs.get(name):
                continue  # as most are, and told so faster than by looking further
            path = f"{prefix}.{name}" if prefix else name
            found.update(differences(ours.get(name), theirs.get(name), path))
        return found
    return {} if ours == theirs else {prefix: theirs}


def _named(items: list[Any]) -> list[str]:
    return [item["name"] for item in items if isinstance(item, dict) and "name" in item]
