"""What the tool costs a job: a task of ours against plain sbatch of the same empty command.

    eval "$(slurm/devcluster/up.sh)" && python -m perf.slurm_overhead [TASKS]

Measures the batch script from its first line to its last, in TASKS (default 20) tasks of each
kind that run one at a time, in turns. "srun" is what any job pays that starts its program as
a step, which is what lets Slurm's signals reach it.
"""

from __future__ import annotations

import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmark.run.pack_file import PackFile
from benchmark.slurm import commands
from benchmark.slurm.profile import Profile, Resources
from benchmark.submission.arrays import Arrays
from benchmark.submission.folder import Folder

ROOT = Path(__file__).resolve().parents[1]
CLOCK = "s=$(date +%s%N); trap 'echo \"took $(( $(date +%s%N) - s ))\"' EXIT"


def main(tasks: int = 20) -> None:
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:
        folder = Path(name)
        kinds = {
            "sbatch": lambda: _plain(tasks, "", folder / "plain"),
            "sbatch, srun": lambda: _plain(tasks, "srun ", folder / "srun"),
            "bench": lambda: _ours(tasks, folder / "ours"),
        }
        for kind, run in kinds.items():
            took = sorted(_wait(*run()))
            print(
                f"{kind:14} median {statistics.median(took):.3f} s, quartiles"
                f" {took[len(took) // 4]:.3f} to {took[3 * len(took) // 4]:.3f} s (n = {len(took)})"
            )


def _plain(tasks: int, prefix: str, folder: Path) -> tuple[int, Path]:
    folder.mkdir()
    script = folder / "job.sh"
    script.write_text(f"#!/bin/bash\n{CLOCK}\n{prefix}{sys.executable} -c pass\n")
    words = ["sbatch", "--parsable", f"--array=0-{tasks - 1}%1", "--mem=100M", "--nodes=1"]
    return int(commands.ask([*words, f"--output={folder}/%a.log", str(script)])), folder


def _ours(tasks: int, folder: Path) -> tuple[int, Path]:
    options = {"array-parallelism": 1, "setup": (CLOCK,)}
    empty = {"table": "overhead", "keys": (), "cells": (), "runs": ()}
    where = {"runs_dir": folder, "data_dir": folder}
    packs = [PackFile(id=f"p{i}", label=f"p{i}", **empty, **where) for i in range(tasks)]
    arrays = Arrays(
        table="overhead",
        nonce=secrets.token_hex(6),
        folder=Folder(folder),
        packs=tuple(packs),
        profile=Profile(time="10", **options),
        resources={pack.id: Resources(1, "0", "100M") for pack in packs},
        limits=commands.read_limits(),
        code=ROOT,
        command=("-m", "perf.empty_task"),
    )
    return arrays.send()[0], folder


def _wait(job: int, folder: Path) -> list[float]:
    while commands.ask(["squeue", "--noheader", f"--jobs={job}"]).strip():
        time.sleep(0.5)
    logs = [path.read_text() for path in (*folder.glob("*.log"), *folder.glob("*log.out"))]
    return [int(text.split("took ")[1].split()[0]) / 1e9 for text in logs]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
