"""What queues start: a queue of this machine, one of its packs, or one task of a Slurm array.

``python -m benchmark.cli.job queue FOLDER``, ``... pack FOLDER NUMBER DESCRIPTOR GPUS`` (see
submission/process.py), ``... nursery DESCRIPTOR`` (see submission/nursery.py), ``... follow FOLDER
NUMBER`` for each further process of a pack, ``... task FOLDER ARRAY``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.log import reporting, say
from benchmark.submission.folder import Folder
from benchmark.submission.own_copy import leave_with_it


def main(kind: str, folder: Path, number: int = 0, *more: str) -> int:
    """Run a queue, a task or a pack and return its exit code; ``number``: of the array or pack."""
    if kind == "pack":
        from benchmark.submission.task import train_and_answer

        descriptor, gpus = more
        train_and_answer(folder, number, gpus.split(",") if gpus else (), int(descriptor))
        return 0
    if kind == "follow":
        from benchmark.submission.task import follow_in_job

        return follow_in_job(folder, number)
    if kind == "nursery":
        from benchmark.submission.nursery import serve
        from benchmark.submission.task import get_ready, train_and_answer

        get_ready()
        return serve(int(str(folder)), train_and_answer)
    leave_with_it()
    with reporting():
        try:
            if kind == "queue":
                from benchmark.submission.local_queue import read_submission, run_queue

                return run_queue(read_submission(Folder(folder)))
            from benchmark.submission.task import run_task, train

            return run_task(Folder(folder), number, train)
        except UserError as error:
            say(f"error: {error}")
            return 2


if __name__ == "__main__":
    kind, folder, *numbers = sys.argv[1:]
    raise SystemExit(main(kind, Path(folder), int(numbers[0]) if numbers else 0, *numbers[1:]))
