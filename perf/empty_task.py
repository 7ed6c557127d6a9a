"""A task whose training is empty, for slurm_overhead.py."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.submission.task import Report, run_task

if __name__ == "__main__":
    raise SystemExit(run_task(Path(sys.argv[1]), lambda pack, interruption: Report(0)))
