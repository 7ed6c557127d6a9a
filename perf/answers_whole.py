"""What kept answers save whole runs of one KD cell, everything counted: starts, proofs, evaluation.

    python -m perf.answers_whole FOLDER [--seeds 5 --epochs 120 --images 1000] [--rounds 1]

FOLDER holds CIFAR-100's official pickles (or a subset of them), of which the first so many images
are trained on and as many, or all there are, evaluated at the end. Each run is a process of its
own. One of each seed without kept answers and one with them take turns; those with them share what
was kept before, in a folder that is empty at the start of a round. ``--seeds 1 --epochs 20 --images
2000`` is a first run that fills it as it goes. The share of questions that repeat follows from
epochs and seeds alone, so that fewer images make the same comparison shorter, in which starts and
proofs weigh more. With ``--threads 1`` processor seconds count, which other work on the machine
hardly moves.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import shutil
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.data.write import write_dataset
from benchmark.run.identity import Run
from perf.interleaved import middle
from perf.plain_loop import BATCH_SIZE
from perf.standin import with_teacher
from perf.train_speed import SPEED_TABLE, conditions, plan_runs

COLUMN = "resnet32x4-resnet8x4"
KINDS = ("asked every time", "answers kept")


class Spent(NamedTuple):
    """Seconds, and how many questions the teacher was asked, proofs left out."""

    seconds: float
    asked: int


def subset(folder: Path, images: int, place: Path) -> None:
    """Write the first images of both splits in the official layout."""
    place.mkdir()
    shutil.copy(folder / "meta", place / "meta")
    for split in ("train", "test"):
        with (folder / split).open("rb") as file:
            content: dict[Any, Any] = pickle.load(file, encoding="latin1")
        total = len(content["fine_labels"])
        cut = {
            name: value[:images] if hasattr(value, "__len__") and len(value) == total else value
            for name, value in content.items()
        }
        with (place / split).open("wb") as file:
            pickle.dump(cut, file)


def planned(work: Path, kind: str, options: argparse.Namespace) -> list[Run]:
    """Return the runs of one kind, seed by seed, with their teacher in a folder of their own."""
    first = plan_runs(str(SPEED_TABLE), COLUMN, "fp32", work / "data")[0]
    changed = {
        "epochs": options.epochs,
        "eval_every": options.epochs,
        "batch_size": min(BATCH_SIZE, options.images),
        "threads": options.threads,
        "keep_drops": False,
    }
    run = first.model_copy(update={"recipe": first.recipe.model_copy(update=changed)})
    (taught,) = with_teacher([run], work / "data", work / kind)
    return [taught.model_copy(update={"seed": seed}) for seed in range(options.seeds)]


def train(kind: str, run: Run, work: Path, answer: Connection) -> None:
    """Train one run to its end, as a job does."""
    from benchmark.planning.packs import Pack
    from benchmark.submission.task import train_here
    from benchmark.train.answers import Answers
    from benchmark.train.report import Lines

    os.environ["BENCH_TEACHER_ANSWERS"] = "off" if kind == KINDS[0] else "16G"
    asking: list[Answers] = []
    make = Answers.__init__

    def noted(self: Answers, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        asking.append(self)

    Answers.__init__ = noted  # type: ignore[method-assign]
    outcome = train_here(Pack("whole", (run,)).file(work / kind, work / "data"), reporter=Lines)
    assert outcome.exit_code == 0, outcome
    answer.send(sum(found.asked for found in asking))


def spend(kind: str, run: Run, work: Path) -> Spent:
    """Train in a process, and return what it took, from its start to its end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=train, args=(kind, run, work, theirs))
    before, began = os.times(), time.perf_counter()
    process.start()
    theirs.close()
    asked = ours.recv()
    process.join()
    after, passed = os.times(), time.perf_counter() - began
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return Spent(used if run.recipe.threads == 1 else passed, asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(conditions(options.rounds), flush=True)
    found: dict[str, list[Spent]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subset(options.folder, options.images, work / "pickles")
        write_dataset("cifar100", work / "pickles", work / "data", allow_altered=True)
        for number in range(options.rounds):
            runs = {kind: planned(work, kind, options) for kind in KINDS}
            spent: dict[str, list[Spent]] = {kind: [] for kind in KINDS}
            for seed in range(options.seeds):
                for kind in KINDS if (seed + number) % 2 else KINDS[::-1]:
                    took = spend(kind, runs[kind][seed], work)
                    spent[kind].append(took)
                    print(f"round {number}, seed {seed}, {kind}: {took}", file=sys.stderr)
            for kind in KINDS:
                whole = [sum(values) for values in zip(*spent[kind], strict=True)]
                found[kind].append(Spent(whole[0], int(whole[1])))
                shutil.rmtree(work / kind)
    print(
        f"\n{COLUMN}, KD: {options.seeds} seeds one after the other, {options.epochs} epochs of"
        f" {options.images} images, batch"
        f" {min(BATCH_SIZE, options.images)}\n"
    )
    print("| teacher | seconds | questions | times as fast |")
    print("|---|---|---|---|")
    for kind, several in found.items():
        pairs = zip(found[KINDS[0]], several, strict=True)
        ratio = middle([before.seconds / after.seconds for before, after in pairs])
        seconds, asked = (middle([one[place] for one in several], 0) for place in (0, 1))
        print(f"| {kind} | {seconds} | {asked} | {ratio} |")


if __name__ == "__main__":
    main()
