"""What surviving costs: writing checkpoints, and starting again from them.

    python -m perf.checkpoints FOLDER [--resumes 60]

FOLDER holds CIFAR-100's official pickles, or a subset that is repeated to 50,000 images. The
runs are those of the ``cifar100`` table's pair resnet32x4 to resnet8x4, the memories of CRD and
the private teachers included. A resume is counted from the end of the imports to the begin of
the first step: data and teacher are read and verified, runs are taken, built and loaded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmark.data.write import write_dataset
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.train.engine import Engine, Interrupted
from benchmark.train.pack import Surroundings, train_pack
from benchmark.train.report import Lines
from benchmark.train.session import Session
from benchmark.train.trainee import Trainee
from perf.interleaved import middle
from perf.standin import with_teacher
from perf.train_speed import conditions, plan_runs

COLUMN = "resnet32x4-resnet8x4"
FULL_SIZE = 50_000


def full_size(folder: Path, target: Path) -> None:
    """Write pickles with as many training images as the official ones."""
    target.mkdir()
    for name in ("meta", "test", "train"):
        with (folder / name).open("rb") as file:
            content = pickle.load(file, encoding="latin1")
        if name == "train":
            chosen = np.arange(FULL_SIZE) % len(content["data"])
            content["data"] = content["data"][chosen]
            content["fine_labels"] = np.asarray(content["fine_labels"])[chosen].tolist()
        with (target / name).open("wb") as file:
            pickle.dump({k: content[k] for k in content if "coarse" not in k}, file)


def one_step(runs: Sequence[Run], data: Path, runs_dir: Path) -> None:
    """Train a first step, so that optimisers have their state, and save."""
    where = Surroundings(stop=lambda: "measured", reporter=Lines)
    train_pack(Pack("resumes", tuple(runs)).file(runs_dir, data), where)


def until_first_step(runs: Sequence[Run], data: Path, runs_dir: Path) -> float:
    """Start a pack; return the seconds until its first step would begin. Saves, too."""
    began = time.perf_counter()
    reached: list[float] = []

    def leave(*_: object) -> None:
        reached.append(time.perf_counter())
        raise Interrupted("measured")

    step, Engine._step = Engine._step, leave  # type: ignore[method-assign]
    try:
        where = Surroundings(reporter=Lines)
        train_pack(Pack("resumes", tuple(runs)).file(runs_dir, data), where)
    finally:
        Engine._step = step  # type: ignore[method-assign]
    return reached[0] - began


def _child(connection: Connection, runs: Sequence[Run], data: Path, runs_dir: Path) -> None:
    connection.send(until_first_step(runs, data, runs_dir))


def in_new_process(runs: Sequence[Run], data: Path, runs_dir: Path) -> float:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, runs, data, runs_dir))
    process.start()
    seconds: float = ours.recv()
    process.join()
    return seconds


class SaveTimes:
    """Notes how long each checkpoint took to write, by method."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._write = Session.checkpoint

    def __enter__(self) -> SaveTimes:
        times = self

        def timed(session: Session, trainee: Trainee, keep: bool = False) -> None:
            began = time.perf_counter()
            times._write(session, trainee, keep)
            taken = time.perf_counter() - began
            times.seconds.setdefault(trainee.run.key, []).append(taken)

        Session.checkpoint = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Session.checkpoint = self._write  # type: ignore[method-assign]


def measure(folder: Path, work: Path, resumes: int) -> None:
    data, runs_dir = work / "data", work / "runs"
    full_size(folder, work / "pickles")
    write_dataset("cifar100", work / "pickles", data, allow_altered=True)
    runs = [r for r in plan_runs("cifar100", COLUMN, "fp32", data) if r.recipe.batch_size == 64]
    runs = with_teacher(runs, data, runs_dir)
    one_step(runs, data, runs_dir)
    early = [in_new_process(runs, data, runs_dir) for _ in range(5)]
    with SaveTimes() as saves:
        for _ in range(resumes):
            until_first_step(runs, data, runs_dir)
    late = [in_new_process(runs, data, runs_dir) for _ in range(5)]
    print(f"\n{COLUMN}, pack of {len(runs)}, {FULL_SIZE:,} images\n")
    print("| row | checkpoint MB | seconds to write |\n|---|---|---|")
    for run in runs:
        size = RunDir(runs_dir, run.key).checkpoint.stat().st_size / 2**20
        name = " + ".join(method.name for method in run.methods)
        print(f"| {name} | {size:.0f} | {middle(saves.seconds[run.key], 3)} |")
    total = sum(statistics.median(found) for found in saves.seconds.values())
    interval = Surroundings().checkpoint_seconds
    print(f"\nall together {total:.2f} s every {interval:.0f} s: {total / interval:.2%}")
    print(f"2nd to 6th start: {middle(early)} s beyond imports")
    print(f"{resumes + 7}th start and later: {middle(late)} s")
    one = [runs[0]]
    alone = [in_new_process(one, data, runs_dir) for _ in range(5)]
    print(f"a pack of one, {resumes + 12}th start and later: {middle(alone)} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--resumes", type=int, default=60)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    print(conditions(options.resumes))
    with tempfile.TemporaryDirectory() as folder:
        measure(options.folder, Path(folder), options.resumes)


if __name__ == "__main__":
    main()
