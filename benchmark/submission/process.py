"""A pack in a process of its own on this machine: how it starts, ends and answers.

Nothing is pickled. The process is told a folder and a number, finds its pack there itself, and
answers in JSON through memory that it inherits and that has no name; so there is no file whose
content another user could have written and we would load. Imports no torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.submission.folder import Folder
from benchmark.submission.nursery import Nursery, WarmProcess

_LAST_WORDS = 4096  # bytes


class PackProcess:
    """Trains pack ``number`` of a folder on the ``gpus`` of these names alone.

    Neither Ctrl-C nor a closed terminal reaches it, and it takes no modules from the folder that
    its queue was started in. With a ``nursery`` it starts warm.
    """

    def __init__(
        self,
        folder: Folder,
        number: int,
        pack_id: str,
        gpus: Sequence[str],
        nursery: Nursery | None = None,
    ) -> None:
        self.log: Path = folder.pack_log(pack_id)
        self._folder = folder
        self._answer = os.memfd_create("answer")
        self._words = [str(folder.path), str(number), ",".join(gpus)]
        self._process = self._start_warm(nursery) or self._start_cold()

    def _start_warm(self, nursery: Nursery | None) -> WarmProcess | None:
        if nursery is None or not nursery.alive:
            return None
        with self._folder.writing(self.log) as log:
            return nursery.start(self._words, log.fileno(), self._answer)

    def _start_cold(self) -> subprocess.Popen[bytes]:
        folder, number, gpus = self._words
        words = ["pack", folder, number, str(self._answer), gpus]
        with self._folder.writing(self.log) as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", "benchmark.cli.job", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[self._answer],
            )

    @property
    def ended(self) -> bool:
        """Whether it has."""
        if isinstance(self._process, WarmProcess) and self._process.stillborn:
            self._process = self._start_cold()
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        """Let it save its state and end."""
        self._process.terminate()

    def answer(self) -> dict[str, Any] | None:
        """Return what it answered once it has ended, None if it ended without an answer."""
        with os.fdopen(self._answer, "rb") as file:
            file.seek(0)
            content = file.read()
        return dict(json.loads(content)) if content else None

    def last_words(self) -> str:
        """Say why it ended without an answer: the signal, or the last line of its log."""
        code = self._process.returncode or 0
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"


def answer(descriptor: int, content: dict[str, Any]) -> None:
    """Answer the process that started this one."""
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
