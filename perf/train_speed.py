"""Training speed beside the plain loop: one cell, packs of a column, in fp32 and bf16.

    python -m perf.train_speed FOLDER [--rounds 9]

FOLDER holds CIFAR-100's official pickles (or a subset of them). Every row of the table is a
process that really trains: ours through ``train_pack`` (reader, leases, records, the teacher
from its run directory; checkpoints are measured apart by perf/checkpoints.py), the other
through perf/plain_loop.py. They take turns, a few steps at a time; ratios are medians of
the ratios within a round. Teachers have random weights; those of ours have calibrated batch norms,
so that no student diverges.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmark.data.write import write_dataset
from benchmark.models import build_model
from benchmark.planning.matrix import Context, make_plan
from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.run.state import RunState
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from benchmark.train.provenance import provenance
from perf.interleaved import Contender, Loop, Pause, interleave, middle, ratios
from perf.plain_loop import BATCH_SIZE, plain_steps
from perf.standin import with_teacher

SPEED_TABLE = Path(__file__).parent / "column.yaml"
COLUMNS = {
    "resnet32x4-resnet8x4": ("fp32", "bf16"),
    "resnet50-mobilenetv2": ("fp32",),
    "vgg13-mobilenetv2": ("fp32",),
}


def plan_runs(table: str, column: str, precision: str, data: Path) -> list[Run]:
    """Return the runs of one column with a teacher, students first trained with seed 0."""
    chosen = parse_selection([f"column={column}"], "0", [f"recipe.precision={precision}"])
    plan = make_plan(load_table(table), chosen, Context(data, "cpu"))
    return [run for run in plan.runs if run.teacher is not None]


def train_plain(folder: Path, teacher: str, student: str, pause: Pause) -> None:
    networks = (build_model(teacher, 100), build_model(student, 100))
    for _ in plain_steps(folder, *networks, workers=os.cpu_count() or 1):
        if not pause():
            return


def train_ours(runs: Sequence[Run], data: Path, runs_dir: Path, pause: Pause) -> None:
    from benchmark.train.pack import Surroundings, train_pack
    from benchmark.train.report import Lines

    where = Surroundings(
        checkpoint_seconds=1e9,
        stop=lambda: None if pause() else "measured",
        reporter=Lines,
    )
    outcome = train_pack(Pack("speed", tuple(runs)).file(runs_dir, data), where)
    assert set(outcome.endings.values()) == {RunState.STOPPED}, outcome


class Bench:
    """The contenders of one column, by the name of their row."""

    def __init__(self, folder: Path, work: Path, column: str, steps: int) -> None:
        self._folder, self._work, self._column, self._steps = folder, work, column, steps
        self.contenders: dict[str, Contender] = {}

    def add(self, name: str, loop: Loop, students: int, steps: int) -> None:
        self.contenders[name] = Contender(loop, BATCH_SIZE * students, steps)

    def add_plain(self) -> None:
        teacher, student = self._column.split("-")
        loop = partial(train_plain, self._folder, teacher, student)
        self.add("plain loop, KD", loop, 1, self._steps)

    def add_ours(self, name: str, runs: Sequence[Run]) -> None:
        """Every contender has a runs directory of its own: they train the same runs."""
        runs_dir = self._work / f"runs{len(self.contenders)}-{self._column}"
        taught = with_teacher(runs, self._work / "data", runs_dir)
        loop = partial(train_ours, taught, self._work / "data", runs_dir)
        steps = max(1, round(self._steps * 2 / (1 + len(runs))))
        self.add(name, loop, len(runs), steps)

    def close(self) -> None:
        for contender in self.contenders.values():
            contender.close()


def measure(folder: Path, work: Path, column: str, rounds: int, steps: int) -> None:
    """Print the rows of one column."""
    bench = Bench(folder, work, column, steps)
    bench.add_plain()
    for precision in COLUMNS[column]:
        runs = plan_runs(str(SPEED_TABLE), column, precision, work / "data")
        bench.add_ours(f"one cell, KD, {precision}", runs[:1])
        bench.add_ours(f"pack of {len(runs)}, {precision}", runs)
    interleave(bench.contenders, rounds)
    bench.close()
    plain = next(iter(bench.contenders.values()))
    cell = bench.contenders["one cell, KD, fp32"]
    print(f"\n{column}\n")
    print("| loop | images x methods / s | to the plain loop | to one cell in fp32 | peak MB |")
    print("|---|---|---|---|---|")
    for name, found in bench.contenders.items():
        rate = f"{statistics.median(found.rates):,.0f}"
        to_plain, to_cell = middle(ratios(found, plain)), middle(ratios(found, cell))
        print(f"| {name} | {rate} | {to_plain} | {to_cell} | {found.peak_mb:,.0f} |", flush=True)


def conditions(rounds: int) -> str:
    found = provenance()
    return (
        f"{found['cpu']}, {found['cpus']} CPUs, {torch.get_num_threads()} threads,"
        f" torch {torch.__version__}, Python {platform.python_version()}, commit"
        f" {str(found['commit'])[:12]}, load before {os.getloadavg()[0]:.1f}, batch {BATCH_SIZE},"
        f" n = {rounds} rounds: median (lowest to highest)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3, help="of one cell, in every round")
    parser.add_argument("--column", choices=list(COLUMNS), action="append")
    options = parser.parse_args()
    print(conditions(options.rounds))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_dataset("cifar100", options.folder, work / "data", allow_altered=True)
        for column in options.column or COLUMNS:
            measure(options.folder, work, column, options.rounds, options.steps)


if __name__ == "__main__":
    main()
