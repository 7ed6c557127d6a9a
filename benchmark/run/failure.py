"""Note why an attempt at a run failed, and how many attempts failed alike."""

from __future__ import annotations

import contextlib
import time
import traceback

from benchmark.base.errors import UserError, first_line
from benchmark.base.files import read_json, write_json
from benchmark.base.inside import check_own
from benchmark.run.directory import RunDir
from benchmark.run.identity import SCHEMA

_LONGEST_TRACEBACK = 20_000


def note_failure(rundir: RunDir, error: BaseException) -> None:
    """Write failure.json; a directory that cannot be written, or is another's, stays as it is."""
    try:
        check_own(rundir.path)
    except (UserError, OSError):
        return
    reason = first_line(error)
    count = 1
    # A file that is missing or damaged tells of no earlier attempt.
    with contextlib.suppress(ValueError, KeyError, TypeError):
        before = read_json(rundir.failure, SCHEMA)
        count += before["count"] if before["reason"] == reason else 0
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError, UserError):
        write_json(
            rundir.failure,
            {
                "schema": SCHEMA,
                "reason": reason,
                "kind": type(error).__name__,
                "count": count,
                "time": time.time(),
                "traceback": text[-_LONGEST_TRACEBACK:],
            },
        )
