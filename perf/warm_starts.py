"""What starting warm saves: a part of the digits table by this machine's queue, warm and cold.

    python -m perf.warm_starts [--epochs 60] [--seeds 0] [--rounds 3]

Both train the same runs in turn, each a `bench submit --wait` into a directory of its own. Counted
are processor seconds of the queue and all that it started, which other work on the machine hardly
moves, and the seconds that passed. ``--epochs 60 --seeds 0-2`` is the job of `make demo`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from perf.interleaved import middle
from perf.train_speed import conditions

COLD = "import benchmark.submission.local_queue as q; q.can_fork_warm = lambda: False; "
MAIN = "from benchmark.cli import main; main()"


class Took(NamedTuple):
    """Seconds of processors and of a clock."""

    processor: float
    passed: float


def bench(*words: str, cold: bool = False) -> None:
    code = (COLD if cold else "") + MAIN
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)


def submit(work: Path, name: str, epochs: int, seeds: str) -> Took:
    """Train the part anew, and return what it took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    bench(
        *("submit", "--table", "digits", "--cluster", "local", "--wait", "--seeds", seeds),
        *("--set", f"recipe.epochs={epochs}"),
        *("--data", str(work / "data"), "--runs", str(work / name)),
        cold=name.startswith("cold"),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(processor, time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(conditions(options.rounds), flush=True)
    found: dict[str, list[Took]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bench("data", "write", "digits", "--data", str(work / "data"))
        submit(work, "first", 1, "0")  # what is tried once for all later submissions
        for number in range(options.rounds):
            for name in ("cold", "warm") if number % 2 else ("warm", "cold"):
                took = submit(work, f"{name}{number}", options.epochs, options.seeds)
                found[name].append(took)
                print(f"{name}: {took}", file=sys.stderr, flush=True)
    print("\n| starts | processor seconds | seconds | processor, to cold | seconds, to cold |")
    print("|---|---|---|---|---|")
    for name, several in found.items():
        pairs = list(zip(several, found["cold"], strict=True))
        processor, passed = (
            middle([getattr(a, what) / getattr(b, what) for a, b in pairs])
            for what in ("processor", "passed")
        )
        seconds = " | ".join(
            f"{statistics.median(getattr(one, what) for one in several):.0f}"
            for what in ("processor", "passed")
        )
        print(f"| {name} | {seconds} | {processor} | {passed} |")


if __name__ == "__main__":
    main()
