"""Count what steps of networks and methods ask of a machine, into perf/operations.json.

    python -m perf.count_operations [--networks]

Every network of the tables on the sizes of image that they show it, on the device meta: seconds for
each, without its memory. The methods of the cifar100 table on all of its pairs, the others on two,
which takes most of an hour; ``--networks`` leaves them as they are. Nothing is timed, so other work
does not disturb.
Entries of the versions at hand are kept; delete the file to count everything anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.conformance.operations import PairCounter
from benchmark.conformance.pairs import Pair, table_pairs
from benchmark.data.datasets import dataset_info
from benchmark.methods.catalog import method_infos
from benchmark.models import model_info
from benchmark.planning.matrix import Context, make_plan
from benchmark.planning.operations import OPERATIONS_FILE, SCHEMA
from benchmark.table.load import load_table, table_files
from benchmark.table.selection import parse_selection

FEW_PAIRS = (Pair("resnet32x4", "resnet8x4"), Pair("vgg13", "mobilenetv2"))
SIDE = 32


def networks_of_tables() -> Iterator[tuple[str, int]]:
    """Yield the networks of all tables with the sides of the images that they see."""
    found: set[tuple[str, int]] = set()
    for name in table_files():
        table = load_table(name)
        if not table.trainable:
            continue
        plan = make_plan(table, parse_selection([], "0", []), Context(Path("nowhere"), "cpu"))
        for run in plan.runs:
            side = dataset_info(run.dataset.name).image_size
            found.add((run.model, run.recipe.input_size or side))
            if run.teacher is not None:
                found.add((run.teacher.model, run.teacher_input_size or side))
    yield from sorted(found)


def count_networks(known: dict[tuple[str, int], Any]) -> list[Any]:
    entries = []
    for name, side in networks_of_tables():
        version = model_info(name).version
        entry = known.get((name, side))
        if entry is None or entry["version"] != version:
            print(f"{name} on {side} pixels", flush=True)
            counter = PairCounter(Pair(name, name), side, "meta")
            entry = {
                "name": name,
                "side": side,
                "version": version,
                "parameters": counter.parameters(),
                "forward": counter.forward().to_json(),
                "step": counter.student.to_json(),
            }
        entries.append(entry)
    return entries


def start_methods(known: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of every method: what is known of its present version, or nothing yet."""
    entries = {
        name: {"name": name, "version": info.version, "pairs": {}}
        for name, info in method_infos().items()
    }
    for name, entry in known.items():
        if name in entries and entry["version"] == entries[name]["version"]:
            entries[name] = entry
    return dict(sorted(entries.items()))


def wanted_methods(entries: dict[str, Any]) -> Iterator[tuple[Pair, list[str]]]:
    """Yield pairs with the methods that are to be counted on them, those of the table first."""
    table = load_table("cifar100")
    published = {use.name for row in table.rows for use in row.methods}
    for pairs, names in ((table_pairs(), published), (FEW_PAIRS, set(entries))):
        for pair in pairs:
            missing = [n for n in sorted(names) if pair.key not in entries[n]["pairs"]]
            if missing:
                yield pair, missing


def count_methods(pair: Pair, names: list[str], entries: dict[str, Any]) -> None:
    counter = PairCounter(pair, SIDE)
    for name in names:
        try:
            entries[name]["pairs"][pair.key] = counter.method(name).to_json()
        except UserError as error:
            print(f"{name} on {pair}: {error}", flush=True)
    print(f"{pair}: {len(names)} methods", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", action="store_true", help="count no methods")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before: dict[str, Any] = {"networks": [], "methods": []}
    if OPERATIONS_FILE.is_file():
        before = read_json(OPERATIONS_FILE, SCHEMA)
    content = {
        "schema": SCHEMA,
        "what": "of a training step without a method (step), a pass in eval mode (forward), and"
        " what a method adds to its student's step, the teacher's answers given; by image and"
        " by step, fp32: operations (two a multiplication with its addition), bytes moved,"
        " kernels, bytes held at most, bytes that stay",
        "torch": torch.__version__,
        "networks": count_networks({(e["name"], e["side"]): e for e in before["networks"]}),
    }
    if options.networks:
        write(content | {"methods": before["methods"]})
        return
    methods = start_methods({entry["name"]: entry for entry in before["methods"]})
    write(content | {"methods": list(methods.values())})
    for pair, names in wanted_methods(methods):
        count_methods(pair, names, methods)
        write(content | {"methods": list(methods.values())})


def write(content: dict[str, Any]) -> None:
    """Write the file, a line an entry."""
    lines = []
    for key, value in content.items():
        if isinstance(value, list):
            entries = ",\n  ".join(json.dumps(entry) for entry in value)
            lines.append(f' "{key}": [\n  {entries}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    OPERATIONS_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
