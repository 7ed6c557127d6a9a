"""A table file: rows x columns, how they are trained, and what was published.

The models here say what a YAML file in tables/ may hold; table/load.py finds and reads them,
planning/matrix.py turns them into runs. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from benchmark.base.errors import unknown
from benchmark.table.own_teachers import OwnTeacher, is_tag
from benchmark.table.published import (
    Claim,
    ExpectedMiss,
    Metric,
    Published,
    PublishedCell,
    UnstatedN,
)
from benchmark.table.recipe import Count, Number, Strict

Protocol = Literal["last", "best", "median_of_last_5", "mean_of_last_5"]
Options = dict[str, Any]
MethodOptionsByName = dict[str, Options]


class Publication(Strict):
    """Where a table was published."""

    paper: str
    arxiv: str | None = None
    table: int | str | None = None
    url: str | None = None
    note: str | None = None


class ReportProtocol(Strict):
    """Which accuracy of a run the table reports, with a note if the paper does not say."""

    report: Protocol = "last"
    note: str | None = None


class MethodUse(Strict):
    """A method in a row, with the options that differ from its defaults."""

    name: str
    options: Options = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        # In the file: `kd`, or `{kd: {temperature: 2}}`.
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, dict) and len(data) == 1 and "name" not in data:
            ((name, options),) = data.items()
            return {"name": name, "options": options or {}}
        return data


class DistilledTeacher(Strict):
    """A teacher that is itself a student (a teacher assistant): of whom, by which methods."""

    teacher: str
    methods: tuple[MethodUse, ...]


class TeacherPolicy(Strict):
    """Where teachers come from and which seeds share one.

    ``registry``: the public checkpoint if its file is there, else trained with seed 0;
    ``train``: always trained. ``fixed``: one teacher for all student seeds; ``same``: each
    student seed has a teacher of its own seed. ``recipe`` overrides fields for its training;
    ``distilled`` names teachers that are trained by another teacher; ``files`` names files of the
    user's own by network, which come before all of that.
    """

    from_: Literal["registry", "train"] = Field("registry", alias="from")
    seed: Literal["fixed", "same"] = "fixed"
    recipe: dict[str, Any] = {}
    distilled: dict[str, DistilledTeacher] = {}
    files: dict[str, OwnTeacher] = {}

    @model_validator(mode="after")
    def _one_source(self) -> TeacherPolicy:
        for model in self.distilled:
            if model in self.files:
                raise ValueError(f"{model} stands in files and in distilled; keep one of them")
            if is_tag(model):
                raise ValueError(f"distilled: {model} names published weights, which are there")
        return self

    def file_of(self, model: str) -> OwnTeacher | None:
        """Return the user's own file of a teacher; a name with a tag is one itself."""
        own = self.files.get(model)
        return OwnTeacher(path=model) if own is None and is_tag(model) else own


class Column(Strict):
    """One (teacher, student) pair; ``name`` is ``teacher-student`` unless given.

    ``group`` heads neighbouring columns, if the paper has such heads.
    """

    name: str = ""
    teacher: str
    student: str
    group: str | None = None
    dataset: str | None = None
    recipe: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "teacher" in data and "student" in data:
            return {"name": f"{data['teacher']}-{data['student']}", **data}
        return data


class Assumed(Strict):
    """An option that no source states: ``method.option``, for some columns or for all."""

    option: str
    columns: tuple[str, ...] | None = None
    note: str


class Select(Strict):
    """How one combination of a grid becomes the slot's value.

    ``test``: the best by test accuracy, as the source did; ``split``: the best on held-out
    training images.
    """

    on: Literal["test", "split"]


class Row(Strict):
    """One printed row: a baseline (``of``), a composition of methods, or a reference.

    ``per_column`` holds options by column and method; ``recipe`` overrides training fields;
    ``ce_weight``, ``predict`` and ``reported`` (the output that is printed) settle what composed
    methods disagree on; ``grid`` lists values by ``method.option`` and ``select`` says how one
    is chosen. ``sources`` names where an option's value comes from. A ``reference`` row is
    published only and never trained; ``not_run`` names columns for which the row does not exist,
    each with the reason.
    """

    name: str
    of: Literal["teacher", "student"] | None = None
    methods: tuple[MethodUse, ...] = ()
    group: str | None = None
    per_column: dict[str, MethodOptionsByName] = {}
    recipe: dict[str, Any] = {}
    recipe_per_column: dict[str, dict[str, Any]] = {}
    ce_weight: Number | None = None
    predict: str | None = None
    reported: str | None = None
    counts_for_best: bool = True
    teacher: str | None = None
    student: str | None = None
    info: dict[str, str] = {}
    reference: bool = False
    not_run: dict[str, str] = {}
    grid: dict[str, tuple[Any, ...]] = {}
    select: Select | None = None
    assumed: tuple[Assumed, ...] = ()
    sources: dict[str, str] = {}
    note: str | None = None

    def assumed_in(self, column: str) -> tuple[Assumed, ...]:
        """Return what is assumed in a column."""
        return tuple(a for a in self.assumed if a.columns is None or column in a.columns)

    @field_validator("assumed", mode="before")
    @classmethod
    def _several_options(cls, data: Any) -> Any:
        # In the file `option: [dhkd.alpha, dhkd.head]` stands for an entry each.
        if not isinstance(data, list):
            return data
        expanded: list[Any] = []
        for item in data:
            options = item.get("option") if isinstance(item, dict) else None
            several = isinstance(options, list)
            expanded += [{**item, "option": o} for o in options or []] if several else [item]
        return expanded

    @field_validator("sources", mode="before")
    @classmethod
    def _several_sourced(cls, data: Any) -> Any:
        # In the file `dkd.alpha, dkd.beta: ..` stands for an entry each.
        if not isinstance(data, dict):
            return data
        return {part.strip(): text for key, text in data.items() for part in str(key).split(",")}

    @model_validator(mode="after")
    def _one_kind(self) -> Row:
        kinds = [self.of is not None, bool(self.methods), self.reference]
        if sum(kinds) != 1:
            raise ValueError(
                f"row '{self.name}' needs exactly one of `of`, `methods` or `reference: true`"
            )
        if bool(self.grid) != (self.select is not None):
            raise ValueError(f"row '{self.name}': `grid` and `select` go together")
        if any(not values for values in self.grid.values()):
            raise ValueError(f"row '{self.name}': a grid axis is empty")
        return self


class Table(Strict):
    """One published table.

    ``margin`` (points; ``margins`` by metric if they differ): how far a reproduced value may
    be off. ``max_seeds``: up to how many seeds one may extend and look again (half as many again
    as ``seeds`` unless given). ``max_divergence``: which part of a cell's seeds may diverge while
    it is still called reproduced.
    """

    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str | None = None
    source: Publication
    dataset: str
    metrics: tuple[Metric, ...] = ("top1",)
    show_as: Literal["accuracy", "error"] = "accuracy"
    recipe: str
    recipe_overrides: dict[str, Any] = {}
    protocol: ReportProtocol = ReportProtocol()
    teacher: TeacherPolicy = TeacherPolicy()
    seeds: tuple[Count, ...]
    max_seeds: Count | None = None
    margin: Annotated[Number, Field(gt=0)] = 0.5
    margins: dict[Metric, Annotated[Number, Field(gt=0)]] = {}
    max_divergence: Annotated[Number, Field(ge=0, le=1)] = 0.0
    trainable: bool = True
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    names: dict[str, str] = {}
    published: dict[str, dict[str, PublishedCell]] = {}
    unstated_n: UnstatedN = UnstatedN()
    expected_misses: tuple[ExpectedMiss, ...] = ()
    claims: tuple[Claim, ...] = ()
    note: str | None = None
    base: str | None = None
    plugins: tuple[str, ...] = ()  # files of the user's own: methods and networks

    @field_validator("published", mode="before")
    @classmethod
    def _single_metric(cls, data: Any) -> Any:
        # A table of one metric writes {value: ..} directly; it is top-1 then.
        if not isinstance(data, Mapping):
            return data
        return {
            row: {column: _by_metric(cell) for column, cell in cells.items()}
            if isinstance(cells, Mapping)
            else cells
            for row, cells in data.items()
        }

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        _unique([c.name for c in self.columns], "column")
        _unique([r.name for r in self.rows], "row")
        _unique([str(s) for s in self.seeds], "seed")
        if not self.seeds:
            raise ValueError("a table needs at least one seed")
        if self.max_seeds is not None and self.max_seeds < len(self.seeds):
            raise ValueError(
                f"max_seeds is {self.max_seeds}, fewer than the {len(self.seeds)} of `seeds`"
            )
        for metric in self.margins:
            _known("metric", metric, self.metrics, "margins")
        self._names_exist()
        return self

    def _names_exist(self) -> None:
        rows, columns = [r.name for r in self.rows], [c.name for c in self.columns]
        for row, cells in self.published.items():
            _known("row", row, rows, "published")
            for column in cells:
                _known("column", column, columns, f"published.{row}")
        for miss in self.expected_misses:
            _known("row", miss.row, rows, "expected_misses")
            _known("column", miss.column, columns, "expected_misses")
            _known("metric", miss.metric, self.metrics, "expected_misses")
        for expectation in (expect for claim in self.claims for expect in claim.expect):
            if expectation.tables and self.name not in expectation.tables:
                continue  # load_table reads the other tables
            for name in expectation.rows:
                _known("row", name, rows, "claims")
            for name in expectation.columns or ():
                _known("column", name, columns, "claims")
            _known("metric", expectation.metric, self.metrics, "claims")
        taught = self.teacher.distilled
        teaching = {c.teacher for c in self.columns} | {r.teacher for r in self.rows if r.teacher}
        for name in self.teacher.files:
            _known("teacher", name, teaching, "teacher.files")
        for name in taught:
            _known("teacher", name, teaching | {t.teacher for t in taught.values()}, "distilled")
        self._rows_name_what_exists(columns)

    def _rows_name_what_exists(self, columns: list[str]) -> None:
        for item in self.rows:
            named = [*item.per_column, *item.recipe_per_column, *item.not_run]
            named += [c for a in item.assumed for c in a.columns or ()]
            for column in named:
                _known("column", column, columns, f"row '{item.name}'")
            used = {m.name for m in item.methods}
            for column, options in item.per_column.items():
                for method in options:
                    _known("method", method, used, f"row '{item.name}', per_column.{column}")
            axes = [*item.grid, *(a.option for a in item.assumed), *item.sources]
            for axis in axes:
                if "." not in axis:
                    raise ValueError(f"row '{item.name}': '{axis}' must be method.option")
                _known("method", axis.split(".")[0], used | {"recipe"}, f"row '{item.name}'")

    def row(self, name: str) -> Row:
        """Return the row of that printed name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise unknown("row", name, [r.name for r in self.rows], f"table {self.name}")

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise unknown("column", name, [c.name for c in self.columns], f"table {self.name}")

    def published_value(self, row: str, column: str, metric: Metric) -> Published | None:
        """Return the published entry of a slot, if the table has one."""
        return self.published.get(row, {}).get(column, {}).get(metric)

    @property
    def claimed_tables(self) -> tuple[str, ...]:
        """The further tables that its claims speak of, by name."""
        named = (name for claim in self.claims for e in claim.expect for name in e.tables)
        return tuple(dict.fromkeys(name for name in named if name != self.name))

    def display(self, model: str) -> str:
        """Return the printed name of a network."""
        return self.names.get(model, model)


def _by_metric(cell: Any) -> Any:
    if isinstance(cell, Mapping) and not set(cell) <= {"top1", "top5"}:
        return {"top1": cell}
    return cell if isinstance(cell, Mapping) else {"top1": cell}


def _unique(names: list[str], kind: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {kind}s are named '{name}'")


def _known(kind: str, name: str, valid: Any, where: str) -> None:
    if name not in valid:
        raise unknown(kind, name, valid, where)
