"""The methods as JSON: options, parameters per pair, and step costs with how they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.base.log import say
from benchmark.base.shipped import shipped
from benchmark.conformance.costs import measure_costs
from benchmark.conformance.pairs import Pair, table_pairs
from benchmark.conformance.parameters import Geometry, extra_parameters
from benchmark.data.datasets import dataset_info
from benchmark.methods.catalog import MethodInfo
from benchmark.methods.overview import option_schemas
from benchmark.run.directory import data_dir
from benchmark.table.load import load_table
from benchmark.table.recipe import named_recipe, override

SCHEMA = 1
# The output of `bench methods --json --measure`, committed.
COSTS_FILE = shipped("perf/method_costs.json")
_COST_KEYS = ("relative_step_cost", "quartiles", "first_stage_step_cost")


def listing(
    infos: Sequence[MethodInfo], table: str, measure: bool = False, file: Path = COSTS_FILE
) -> dict[str, Any]:
    """Return all that is known of methods as JSON values.

    Parameters are counted here and now for the table's pairs. Costs come from ``file`` unless
    ``measure``; they are null for methods that it does not hold in their present version.
    """
    conditions: dict[str, Any] | None
    if measure:
        conditions, costs = measure_costs(infos, say=say)
    else:
        conditions, costs = read_costs(infos, file)
    pairs, geometry = table_pairs(table), _geometry(table)
    return {
        "schema": SCHEMA,
        "table": table,
        "pairs": [pair.key for pair in pairs],
        "measured": conditions,
        "methods": [_entry(info, pairs, geometry, costs.get(info.name)) for info in infos],
    }


def _entry(
    info: MethodInfo, pairs: Sequence[Pair], geometry: Geometry, cost: dict[str, Any] | None
) -> dict[str, Any]:
    trained: dict[str, int | None] = {}
    first_stage: dict[str, int] = {}
    undefined: dict[str, str] = {}
    for pair in pairs:
        try:
            counts = extra_parameters(info.name, pair, geometry)
        except UserError as error:
            trained[pair.key], undefined[pair.key] = None, str(error)
            continue
        trained[pair.key] = counts.trained
        if counts.first_stage:
            first_stage[pair.key] = counts.first_stage
    return {
        "name": info.name,
        "version": info.version,
        "summary": info.summary,
        "needs_teacher": info.needs_teacher,
        "private_teacher": info.private_teacher,
        "overrides_predict": info.overrides_predict,
        "options": option_schemas(info),
        "extra_parameters": trained,
        "first_stage_parameters": first_stage,
        "undefined": undefined,
        **{key: (cost or {}).get(key) for key in _COST_KEYS},
    }


def _geometry(table: str) -> Geometry:
    loaded = load_table(table)
    dataset = dataset_info(loaded.dataset, data_dir=data_dir())
    recipe = override(named_recipe(loaded.recipe), loaded.recipe_overrides)
    return Geometry(dataset.num_classes, dataset.image_size, recipe.batch_size)


def read_costs(
    infos: Sequence[MethodInfo], file: Path = COSTS_FILE
) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
    """Return how the committed costs were measured, and those of ``infos`` that are present."""
    if not file.is_file():
        return None, {}
    data = read_json(file, SCHEMA)
    versions = {info.name: info.version for info in infos}
    found = {
        entry["name"]: {key: entry.get(key) for key in _COST_KEYS}
        for entry in data["methods"]
        if versions.get(entry["name"]) == entry["version"]
    }
    return data["measured"], found
