"""Three tasks that fail alike hold the rest: what is broken for all need not fail for all.

Failures are noted as files of the submission folder, so that no task needs to ask Slurm.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import read_json, write_json
from benchmark.slurm import commands

SCHEMA = 1
LIMIT = 3


def alike(reason: str) -> str:
    """Return a reason without what differs between tasks: paths, keys, numbers."""
    text = re.sub(r"(/[\w.+-]+)+", "PATH", reason)
    return re.sub(r"\b\w*\d\w*(-\w+)*\b", "N", text)[:200]


def note_failure(folder: Path, task: str, reason: str) -> bool:
    """Note why a task failed; tell whether it is now time to hold the rest."""
    failures = folder / "failures"
    failures.mkdir(exist_ok=True, mode=0o700)
    write_json(failures / f"{task}.json", {"schema": SCHEMA, "reason": reason})
    kinds = Counter(alike(found) for found in reasons(folder).values())
    return kinds[alike(reason)] >= LIMIT


def reasons(folder: Path) -> dict[str, str]:
    """Return the noted failures of a submission by task (``1234_5``)."""
    found = {}
    for path in sorted((folder / "failures").glob("*.json")):
        with contextlib.suppress(UserError):  # being written just now
            found[path.stem] = str(read_json(path, SCHEMA)["reason"])
    return found


def held(folder: Path) -> str | None:
    """Return why a submission is held, None where it is not."""
    return read_mark(folder / "held.json")


def read_mark(path: Path) -> str | None:
    """Return the reason that a mark gives, None where there is none.

    A broken one still stands: whoever wrote it wanted nothing to start.
    """
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["reason"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path} cannot be read"


def hold(folder: Path, reason: str) -> None:
    """Keep the tasks of a submission that have not started from starting."""
    if held(folder) is None:
        write_json(folder / "held.json", {"schema": SCHEMA, "reason": reason})
    for job in jobs(folder):
        # Refused for arrays of which nothing waits any more.
        commands.call(["scontrol", "hold", str(job)])


def release(folder: Path) -> None:
    """Forget the failures and let the waiting tasks start."""
    for path in (folder / "failures").glob("*.json"):
        path.unlink(missing_ok=True)
    (folder / "held.json").unlink(missing_ok=True)
    for job in jobs(folder):
        commands.call(["scontrol", "release", str(job)])


def jobs(folder: Path) -> list[int]:
    """Return the array ids of a submission, as far as they are known."""
    data = read_json(folder / "submission.json", SCHEMA)
    known = [array["job"] for array in data["arrays"] if array["job"] is not None]
    own = os.environ.get("SLURM_ARRAY_JOB_ID")
    # A first task may start before its submission has noted the job's id.
    return sorted({*known, int(own)} if own else set(known))
