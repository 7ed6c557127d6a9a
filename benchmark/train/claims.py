"""Which rows a process is asking a teacher for at this moment, so that no other one asks the same.

A claim is a lock on one byte of a file, at the row's number, which the kernel gives back however
its process ends. Nobody waits while it holds one, so no two wait for each other. Claims decide no
answer: who goes without asks itself and gets the same bits. So there are none where locks are
refused, and none on network file systems, where each would cost a round trip.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmark.base.errors import UserError
from benchmark.run.lease import file_system
from benchmark.train.answer_file import Rows, open_own

Mask = npt.NDArray[np.bool_]
# Longer than a teacher takes for a few batches, shorter than a lease lasts (run/lease.py).
PATIENCE_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"}
_REMOTE |= {"9p", "afs", "orangefs", "panfs", "pvfs2", "wekafs", "virtiofs", "fuse"}


class Claims:
    """This process' claims on rows of the answers in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        self._given_up = False

    @contextlib.contextmanager
    def held(self, rows: Rows, wait: bool) -> Iterator[Mask]:
        """Hold those of ``rows`` [n] that no other process holds, and yield which [n] they are.

        ``wait``: until there is one. Where there are no claims, and no longer any, all.
        """
        try:
            ours = self._take(rows)
            ends, pause = time.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE
            while wait and not ours.any():
                if time.monotonic() >= ends:  # suspended, say: wait for it this once
                    self.close()
                else:
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                ours = self._take(rows)
            yield ours
        finally:
            self._release()

    def close(self) -> None:
        """Give everything back, and claim nothing any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._given_up = None, True

    def _take(self, rows: Rows) -> Mask:
        """Claim, without waiting, and return what of ``rows`` is held: runs of rows at once."""
        descriptor = self._open()
        if descriptor is None:
            return np.ones(len(rows), np.bool_)
        sought, places = np.unique(rows, return_inverse=True)
        ours = np.zeros(len(sought), np.bool_)
        ends = [*(np.flatnonzero(np.diff(sought) > 1) + 1).tolist(), len(sought)]
        for begin, end in zip([0, *ends], ends, strict=False):
            try:
                first = int(sought[begin])
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, end - begin, first)
                ours[begin:end] = True
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    self.close()
                    return np.ones(len(rows), np.bool_)
        return ours[places]

    def _release(self) -> None:
        if self._descriptor is not None:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
            except OSError:
                self.close()

    def _open(self) -> int | None:
        if self._descriptor is None and not self._given_up:
            try:
                if file_system(self._folder).partition(".")[0] not in _REMOTE:
                    self._descriptor, _ = open_own(self._folder / "claims")
            except (OSError, UserError):
                pass
            self._given_up = self._descriptor is None
        return self._descriptor
