"""Seconds that verdicts take, beside the rest of `bench collect`: 143 cells with ten seeds each.

python -m perf.judge_speed --rounds 5
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from benchmark.results.collect import collect
from benchmark.results.judge import judge
from benchmark.run.index import RunIndex
from benchmark.table.load import load_table
from perf.synthetic_runs import write_runs


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Judging a filled table.")
    parser.add_argument("--table", default="cifar100")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    table = load_table(arguments.table).model_copy(update={"seeds": tuple(range(10))})
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        write_runs(Path(folder) / "runs", table, 2000)
        index = RunIndex(Path(folder) / "runs")
        index.refresh()
        grid = collect(table, index).grid
    cells = [cell for cell in grid.cells.values() if cell.values]
    runs = sum(cell.n for cell in cells)
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f};"
        f" {len(cells)} cells, {runs} runs"
    )
    for _ in range(arguments.rounds):
        wall, own = time.perf_counter(), time.process_time()
        judge(grid)
        print(f"{time.perf_counter() - wall:.3f} s wall, {time.process_time() - own:.3f} s own")


if __name__ == "__main__":
    main()
