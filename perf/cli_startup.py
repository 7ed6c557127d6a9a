"""How long the commands that people type all day take to start.

    python -m perf.cli_startup [--n 15]

Each command and an empty typer program are started in turn, n times; medians of wall-clock
seconds, and of the processor's, are printed. Bounds: ``bench --help`` within twice the empty
program, ``bench plan --table cifar100 --seeds 0-4`` (716 runs) under one second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

EMPTY = '''import typer
app = typer.Typer(add_completion=False)
@app.command()
def main(name: str = "nobody") -> None:
    """Nothing."""
app()
'''
BENCH = [sys.executable, "-c", "from benchmark.cli import main; main()"]
COMMANDS = {
    "bench --help": [*BENCH, "--help"],
    "bench plan --table cifar100 --seeds 0-4": [
        *BENCH,
        "plan",
        "--table",
        "cifar100",
        "--seeds",
        "0-4",
    ],
    "bench status --table digits": [*BENCH, "status", "--table", "digits"],
    "bench tables": [*BENCH, "tables"],
}


def timed(command: list[str], folder: str) -> tuple[float, float]:
    """Return wall-clock and processor seconds of one start."""
    before = os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    after = os.times()
    processor = sum(after[2:4]) - sum(before[2:4])
    return after.elapsed - before.elapsed, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=15)
    count = parser.parse_args().n
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.py")
        empty.write_text(EMPTY)
        commands = {"an empty typer program --help": [sys.executable, str(empty), "--help"]}
        commands |= COMMANDS
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(count):  # in turn: what else the machine does hits all alike
            for name, command in commands.items():
                times[name].append(timed(command, folder))
    print(f"{'':42} {'wall':>7} {'cpu':>7}  median of {count}, seconds")
    for name, found in times.items():
        wall, processor = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:42} {wall:7.3f} {processor:7.3f}")


if __name__ == "__main__":
    main()
