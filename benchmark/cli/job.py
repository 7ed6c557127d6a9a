"""What queues start: ``python -m benchmark.cli.job queue FOLDER``, ``... task FOLDER ARRAY``.

A queue of this machine in a process of its own, or one task of a Slurm array.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.log import reporting, say
from benchmark.submission.folder import Folder


def main(kind: str, folder: Path, array: int = 0) -> int:
    """Run a queue or a task and return its exit code."""
    with reporting():
        try:
            if kind == "queue":
                from benchmark.submission.local_queue import read_submission, run_queue

                return run_queue(read_submission(Folder(folder)))
            from benchmark.submission.task import run_task, train

            return run_task(Folder(folder), array, train)
        except UserError as error:
            say(f"error: {error}")
            return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:4])))
