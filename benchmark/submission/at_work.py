"""A sign of life from the process that works through a local submission.

It holds the submission's folder by the same lease as a run is held, so that others can tell
packs that wait from packs that nobody will start. Imports no torch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from benchmark.run.directory import RunDir
from benchmark.run.lease import Lease, LeaseLostError, is_held

_HEARTBEAT_SECONDS = 15.0


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Hold a submission's folder; RunHeldError where another process works through it."""
    lease = Lease.acquire(_as_rundir(folder))
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(lease, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        lease.release()


def is_at_work(folder: Path) -> bool:
    """Tell whether a process works through a local submission."""
    return is_held(_as_rundir(folder).lease)


def _beat(lease: Lease, ended: threading.Event) -> None:
    with contextlib.suppress(LeaseLostError):
        while not ended.wait(_HEARTBEAT_SECONDS):
            lease.renew()


def _as_rundir(folder: Path) -> RunDir:
    return RunDir(folder.parent, folder.name)
