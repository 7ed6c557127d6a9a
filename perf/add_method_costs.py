"""Measure what methods cost that perf/method_costs.json lacks, or holds in another version.

    python -m perf.add_method_costs [--rounds 7] [--batch 64]

The others keep their measurement; ``added`` in the file says which came later and what the plain
student's step took then. `bench methods --json --measure` measures all of them anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmark.base.files import read_json
from benchmark.conformance.costs import BATCH, ROUNDS, measure_costs
from benchmark.conformance.listing import COSTS_FILE, SCHEMA, listing
from benchmark.methods.catalog import method_infos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--batch", type=int, default=BATCH)
    options = parser.parse_args()
    data = read_json(COSTS_FILE, SCHEMA)
    known = {entry["name"]: entry for entry in data["methods"]}
    infos = method_infos()
    wanted = [
        info
        for name, info in infos.items()
        if name not in known or known[name]["version"] != info.version
    ]
    if not wanted:
        print("nothing to measure")
        return
    measured, costs = measure_costs(
        wanted,
        batch_size=options.batch,
        rounds=options.rounds,
        say=lambda text: print(text, file=sys.stderr),
    )
    found: dict[str, Any] = listing(wanted, data["table"])
    keys = ("plain_step_seconds", "rounds", "batch_size", "cpu", "cpus", "versions")
    note = {"methods": [info.name for info in wanted]} | {key: measured[key] for key in keys}
    data.setdefault("added", []).append(note)
    known |= {entry["name"]: entry | costs[entry["name"]] for entry in found["methods"]}
    data["methods"] = [known[name] for name in sorted(known) if name in infos]
    COSTS_FILE.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
