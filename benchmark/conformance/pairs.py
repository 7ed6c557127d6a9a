"""Which (teacher, student) pairs methods are checked and measured on. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.models import model_info
from benchmark.table.load import load_table

DEFAULT_TABLE = "cifar100"


class Pair(NamedTuple):
    """A teacher and a student by their networks' names."""

    teacher: str
    student: str

    def __str__(self) -> str:
        return f"{self.teacher} -> {self.student}"

    @property
    def key(self) -> str:
        """The name of a table's column with this pair."""
        return f"{self.teacher}-{self.student}"


# Networks of milliseconds on small images. Their channels differ in every stage, which finds
# more mistakes; methods that are defined for equal channels alone get the second pair.
SMALL = (Pair("wrn_16_2", "resnet8"), Pair("resnet14", "resnet8"))


def table_pairs(table: str = DEFAULT_TABLE) -> list[Pair]:
    """Return the distinct pairs of a table's columns, in order."""
    columns = load_table(table).columns
    return list(dict.fromkeys(Pair(column.teacher, column.student) for column in columns))


def parse_pair(text: str) -> Pair:
    """Return ``teacher,student``; UserError for anything else and for unknown networks."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2:
        raise UserError(f"--pair {text}: expected TEACHER,STUDENT, as in resnet32x4,resnet8x4")
    for name in names:
        model_info(name, "--pair")
    return Pair(*names)


def image_size(pair: Pair) -> int:
    """Return the side of the images that a pair is checked on."""
    if pair in SMALL:
        return 8
    return 224 if any(name.startswith("timm:") for name in pair) else 32
