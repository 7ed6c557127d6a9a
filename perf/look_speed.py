"""Seconds of `bench report` for many runs, and of `bench figures` for a column of 13 rows.

    python -m perf.look_speed FOLDER --runs 1000 --rounds 3

FOLDER holds CIFAR-100 in its official layout. Runs are made up (synthetic_runs.py, 240 recorded
epochs each); the networks of the column, resnet20 beside a resnet56, have initial weights, which
cost as much to look into as trained ones. Each measurement is a whole command in a process of its
own, imports included; user and system time stand beside the wall clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from benchmark.data.write import write_dataset
from benchmark.models import build_model
from benchmark.planning.matrix import Context, make_plan
from benchmark.run.directory import RunDir
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from perf.collect_scale import BENCH, Cost, measure
from perf.synthetic_runs import write_run, write_runs

METHODS = ("kd", "dkd", "dhkd", "at", "fitnet", "rkd", "pkt", "vid", "sp", "cc", "nst", "reviewkd")
TABLE = """
schema: 1
name: look
title: Thirteen rows to look at
source: {paper: Nobody}
dataset: cifar100
recipe: crd_240
teacher: {from: train, seed: fixed}
seeds: [0, 1, 2]
columns: [{teacher: resnet56, student: resnet20}]
rows:
  - {name: Student, of: student}
"""
QUICK = ("curves", "differences", "forest", "cost")
NETWORKS = ("tsne", "correlation", "attention", "relative-logits", "conflict")


def write_column(folder: Path, images: Path) -> Path:
    """Write data, a table of 13 rows, and its finished runs with networks; return the table."""
    write_dataset("cifar100", images, folder / "data", allow_altered=True)
    table = folder / "look.yaml"
    rows = "".join(f"  - {{name: {name.upper()}, methods: [{name}]}}\n" for name in METHODS)
    table.write_text(TABLE + rows)
    context = Context(folder / "data", "cpu")
    for run in make_plan(load_table(str(table)), Selection(), context).runs:
        write_run(folder / "column", run, 70.0, curve=True)
        weights = build_model(run.model, 100).state_dict()
        save_file(weights, RunDir(folder / "column", run.key).weights)
    return table


def tell(name: str, costs: list[Cost]) -> None:
    """Print the medians of some measurements."""
    walls, cpus = ([getattr(c, what) for c in costs] for what in ("wall", "cpu"))
    size = max(c.megabytes for c in costs)
    spread = f"{min(walls):.1f} to {max(walls):.1f}"
    cpu = statistics.median(cpus)
    print(
        f"{name:56}{statistics.median(walls):7.1f} s ({spread}){cpu:8.1f} s CPU{size:7.0f} MB",
        flush=True,
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="bench report and bench figures.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, n = {arguments.rounds}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_runs(folder / "runs", load_table("cifar100"), arguments.runs, curves=True)
        table = write_column(folder, arguments.folder)
        report = [*BENCH, "report", "-t", "cifar100", "--runs", str(folder / "runs")]
        figures = [*BENCH, "figures", "-t", str(table), "--runs", str(folder / "column")]
        figures += ["--data", str(folder / "data"), "--out", str(folder / "figures")]
        commands = {f"report, {arguments.runs:,} runs": report}
        for kinds in (QUICK, NETWORKS):
            words = [word for kind in kinds for word in ("--kind", kind)]
            commands[f"figures, {', '.join(kinds)}"] = [*figures, *words]
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        pages = folder / "report"
        for round_ in range(arguments.rounds):
            for name, command in commands.items():
                cache = folder / f"cache{round_}"
                out = ["--out", str(pages / str(round_))] if command is report else []
                costs[name].append(measure([*command, *out], cache))
                tell(f"  {name}", costs[name][-1:])
        for name, found in costs.items():
            tell(name, found)
        sizes = [path.stat().st_size for path in (pages / "0").rglob("*.html")]
        print(f"{len(sizes)} pages, the largest {max(sizes) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
