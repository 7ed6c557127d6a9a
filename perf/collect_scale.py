"""Seconds and memory of `bench collect` over many run directories.

    python -m perf.collect_scale --runs 1000 100000

Made-up runs (synthetic_runs.py) are written to a temporary directory and deleted afterwards.
Every measurement is a whole command in a process of its own, imports included: first without
an index (cold; the directories were written a moment ago, so the page cache holds them), then
with one (warm), which re-reads nothing but file times. User and system time stand beside the
wall clock, since they do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmark.table.load import load_table
from perf.synthetic_runs import write_runs

BENCH = [sys.executable, "-c", "from benchmark.cli import main; main()"]


class Cost(NamedTuple):
    """Of one process: wall clock and processor seconds, and its largest size in MB."""

    wall: float
    cpu: float
    megabytes: float


def measure(command: list[str], cache: Path) -> Cost:
    """Run a command to its end with an index below ``cache``."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    wall = time.perf_counter() - start
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="bench collect over many runs.")
    parser.add_argument("--runs", type=int, nargs="+", default=[1000])
    parser.add_argument("--table", default="cifar100")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    print("  runs  index  wall s  user+sys s    MB")
    for count in arguments.runs:
        with tempfile.TemporaryDirectory() as folder:
            runs = Path(folder) / "runs"
            write_runs(runs, load_table(arguments.table), count)
            time.sleep(4)  # files that are younger are read again by design
            command = [*BENCH, "collect", "--table", arguments.table, "--runs", str(runs)]
            command += ["--format", "json"]
            for round_ in range(arguments.rounds):
                cache = Path(folder) / f"cache{round_}"
                for name in ("cold", "warm"):
                    cost = measure(command, cache)
                    print(
                        f"{count:6}  {name:5}  {cost.wall:6.2f}  {cost.cpu:10.2f}"
                        f"  {cost.megabytes:4.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
