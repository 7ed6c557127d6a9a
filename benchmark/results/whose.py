"""Whose a teacher's file is: public by its digest, the user's own, or nobody can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from benchmark.results.grid import Mark, MarkKind
from benchmark.run.reading import Reading
from benchmark.table.teachers import publicity


class TeacherFile(NamedTuple):
    """A file that taught, or that was measured; ``own``: named by the user, not by a registry."""

    dataset: str
    model: str
    sha256: str
    own: bool

    @property
    def words(self) -> str:
        """The file in two words."""
        return f"own file {self.sha256[:8]}"


def file_of(identity: Mapping[str, Any]) -> TeacherFile | None:
    """Return the file that a cell was taught by or measures, None if a run of ours taught."""
    teacher, dataset = identity["teacher"], str(identity["dataset"]["name"])
    if identity["weights"]:
        own = bool(identity.get("reads"))
        return TeacherFile(dataset, str(identity["model"]), str(identity["weights"]), own)
    if teacher is None or teacher["source"] == "train":
        return None
    own = bool(teacher.get("reads"))
    return TeacherFile(dataset, str(teacher["model"]), str(teacher["key"]), own)


def file_marks(file: TeacherFile | None, runs: Iterable[Reading], is_teacher: bool) -> list[Mark]:
    """Return the remark on a number that comes from a file which is not known to be public."""
    if file is None:
        return []
    whose = "own" if file.own else publicity(file.dataset, file.model, file.sha256)
    if whose == "public":
        return []
    name = f"{file.model} (file {file.sha256[:8]}{_accuracy(runs)})"
    if whose == "own":
        text = (
            f"measured of the user's own {name}"
            if is_teacher
            else f"taught by the user's own {name}"
        )
        return [Mark(MarkKind.OWN, text)]
    text = f"{name} lies in a public file's place and is not verified: the registry has no digest"
    return [Mark(MarkKind.OTHER, text if is_teacher else f"its teacher {text}")]


def _accuracy(runs: Iterable[Reading]) -> str:
    measured = sorted({run.teacher_top1 for run in runs if run.teacher_top1 is not None})
    return f", {measured[0]:.2f} % on the test images" if len(measured) == 1 else ""
