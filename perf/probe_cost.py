"""What probes cost: seconds of asking them beside seconds of training, run by run.

    python -m perf.probe_cost FOLDER --epochs 3

FOLDER holds CIFAR-100 in its official layout. resnet56 teaches resnet20 by the projector and by
DHKD with the recipe crd_240, each run alone, with all probes on; resnet56 has initial weights
after one short epoch, which cost as much as trained ones. Every line of probes.jsonl says how long
its probe took; the first epoch's, which reads the images and asks the teacher, counts too. Both
sides are of one process, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmark.data.write import write_dataset
from benchmark.planning.matrix import Context, make_plan
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from benchmark.train.pack import Surroundings, train_pack
from benchmark.train.probes import known_probes

TABLE = """
schema: 1
name: probed
title: Two rows to probe
source: {paper: Nobody}
dataset: cifar100
recipe: crd_240
teacher: {from: train, seed: fixed, recipe: {epochs: 1, lr: 1.0e-6, batch_size: 512}}
seeds: [0]
columns: [{teacher: resnet56, student: resnet20}]
rows:
  - {name: Projector, methods: [projector]}
  - {name: DHKD, methods: [dhkd]}
"""


def main() -> None:
    """Train both rows with all probes on and print what these took."""
    parser = argparse.ArgumentParser(description="The cost of probes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset("cifar100", arguments.folder, folder / "data", allow_altered=True)
        (folder / "probed.yaml").write_text(TABLE)
        sets = [f"student.recipe.epochs={arguments.epochs}"]
        sets += [f"student.recipe.probes=[{', '.join(known_probes())}]", "recipe.threads=1"]
        chosen = parse_selection([], "0", sets)
        table = load_table(str(folder / "probed.yaml"))
        plan = make_plan(table, chosen, Context(folder / "data", "cpu"))
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {arguments.epochs} epochs")
        for run in plan.runs:
            pack = Pack("probed", (run,)).file(folder / "runs", folder / "data")
            train_pack(pack, Surroundings())
            rundir = RunDir(folder / "runs", run.key)
            trained = sum(record["seconds"] for record in rundir.read_records())
            spent: defaultdict[str, float] = defaultdict(float)
            for line in rundir.read_probes():
                spent[line["probe"]] += line["seconds"]
            for probe, seconds in spent.items():
                share = 100 * seconds / trained
                print(
                    f"{run.slug:44}{probe:12}{seconds:7.2f} s of {trained:7.1f} s = {share:.2f} %"
                )


if __name__ == "__main__":
    main()
