"""A process that holds locks on bytes of a file, and can be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CODE = """
import fcntl, sys
file = open(sys.argv[1], "a+b")
fcntl.lockf(file, fcntl.LOCK_EX, int(sys.argv[3]), int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


class Locker:
    """Holds ``count`` bytes from ``first`` on of the file at ``path``, all if it is 0."""

    def __init__(self, path: Path, first: int, count: int) -> None:
        command = [sys.executable, "-c", _CODE, str(path), str(first), str(count)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        held = self._process.stdout.readline()
        if not held:
            self.kill()
        assert held == "held\n"

    def __enter__(self) -> Locker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill it, and return when it is dead."""
        self._process.kill()
        self._process.communicate()
