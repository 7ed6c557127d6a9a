"""Where every option and recipe field of a cell comes from, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmark.methods.catalog import method_info
from benchmark.results.assign import Group
from benchmark.table.recipe import named_recipe, override
from benchmark.table.spec import Column, MethodUse, Row, Table


@dataclass(frozen=True)
class Origins:
    """The values of one cell as its table describes them, and what the runs shown have instead.

    ``chosen`` is the combination of the row's grid that is shown, empty while there is none.
    """

    table: Table
    row: Row
    column: Column
    shown: Group | None
    chosen: Mapping[str, Any]

    def lines(self) -> Iterator[str]:
        """Yield every option of every method, what the row settles, and the whole recipe."""
        for use in self.row.methods:
            yield from self._options(use)
        if self.row.ce_weight is not None:
            yield f"cross-entropy weight = {self.row.ce_weight:g} (set in this row)"
        if self.row.predict is not None:
            yield f"predictions by {self.row.predict} (set in this row)"
        yield from self._recipe()

    def _options(self, use: MethodUse) -> Iterator[str]:
        where = f"table {self.table.name}"
        own = self.row.per_column.get(self.column.name, {}).get(use.name, {})
        given = {**use.options, **own, **self._chosen_of(use.name)}
        for option, value in method_info(use.name, where).resolve(given, where).items():
            name = f"{use.name}.{option}"
            if name in self.row.grid:
                origin = f"of the grid {_listed(self.row.grid[name])}"
            elif option in own:
                origin = "set for this column"
            elif option in use.options:
                origin = "set in this row"
            else:
                origin = "the method's default"
            if name in self.row.grid and name not in self.chosen:
                value = "not chosen yet"
            line = self._line(f"option {name}", value, origin, name)
            yield line + self._instead(f"{use.name}.options.{option}")

    def _recipe(self) -> Iterator[str]:
        base = self.table.recipe
        resolved = named = named_recipe(base)
        origins: dict[str, str] = {}
        for fields, origin in self._layers():
            resolved = override(resolved, fields)
            origins.update({name: origin for name, _ in _flat(fields)})
        before = dict(_flat(named.model_dump(mode="json")))
        told = set()
        for name, value in _flat(resolved.model_dump(mode="json")):
            full = f"recipe.{name}"
            told.add(full)
            layer = origins.get(name)
            if layer is None and before.get(name) != value:
                layer = origins.get("schedule.kind")  # another kind brings fields of its own
            if layer is None:
                line = self._line(full, value, f"recipe {base}", full)
            else:
                origin = f"{layer}; {base} has {before.get(name, 'none')}"
                line = self._line(full, value, origin, full, f"recipe.{name.partition('.')[0]}")
            yield line + self._instead(full)
        for name, (theirs, ours) in self.shown.differences.items() if self.shown else ():
            if name.startswith("recipe.") and name not in told:
                yield f"{name}: the runs shown have {theirs}, the table has {ours}"

    def _layers(self) -> list[tuple[Mapping[str, Any], str]]:
        """Return what overrides the named recipe, the last one over the others."""
        layers = [(self.table.recipe_overrides, "set in the table")]
        if self.row.of == "teacher":
            return [*layers, (self.table.teacher.recipe, "set for teachers in the table")]
        of_column = self.row.recipe_per_column.get(self.column.name, {})
        return [
            *layers,
            (self.column.recipe, "set in this column"),
            (self.row.recipe, "set in this row"),
            (of_column, "set for this row in this column"),
            (self._chosen_of("recipe"), "of the grid"),
        ]

    def _chosen_of(self, part: str) -> dict[str, Any]:
        """Return what the chosen combination sets of a method, or of the recipe."""
        prefix = f"{part}."
        return {k.removeprefix(prefix): v for k, v in self.chosen.items() if k.startswith(prefix)}

    @cached_property
    def _assumed(self) -> dict[str, str]:
        return {item.option: item.note for item in self.row.assumed_in(self.column.name)}

    def _line(self, name: str, value: Any, origin: str, *keys: str) -> str:
        """Return a value with its origin, and the source and assumption that ``keys`` name."""
        source = next((self.row.sources[key] for key in keys if key in self.row.sources), None)
        parts = [origin, *([f"source: {source}"] if source else [])]
        parts += [f"assumed: {self._assumed[key]}" for key in keys if key in self._assumed]
        return f"{name} = {value} ({'; '.join(parts)})"

    def _instead(self, field: str) -> str:
        if self.shown is None or field not in self.shown.differences:
            return ""
        return f"; the runs shown have {self.shown.differences[field][0]}"


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
