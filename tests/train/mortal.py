"""Trains packs in processes that can be killed: ``python -m tests.train.mortal``.

Each line of input is a job as JSON; a process is forked for it (torch is imported once), its
id is printed, then how it ended. ``die_at``: the number of the file operation before which the
process kills itself; ``stop_asking``: the number of the pass of a teacher before which the process
stops, with what it holds, until it is killed;
``no_locks``: the file system refuses locks.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile

OPERATIONS = ("replace", "fsync", "link", "unlink", "truncate", "chmod", "mkdir")


class Undertaker:
    """Starts such processes and kills them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.train.mortal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._line() == "ready\n"

    def start(self, runs: Iterable[Run], data: Path, runs_dir: Path, **job: Any) -> int:
        """Start a process and return its id."""
        pack = Pack("test", tuple(runs)).file(runs_dir, data, None, job.pop("plugins", ()))
        return self.send(pack, **job)

    def send(self, pack: PackFile, **job: Any) -> int:
        """Start a process that does what a pack says, and return its id."""
        assert self._server.stdin is not None
        job |= {"pack": pack.text(), "runs_dir": str(pack.runs_dir)}
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._line())

    @staticmethod
    def until_stopped(pid: int) -> None:
        """Return when process ``pid`` has stopped; it fails where it ended instead."""
        state = ""
        while state != "T":
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            time.sleep(0.01)

    def wait(self) -> dict[str, Any]:
        """Return how the process ended: signal, exit code, number of file operations."""
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()

    def close(self) -> None:
        """End the server."""
        self._server.kill()
        self._server.communicate()


def _count_operations(die_at: int) -> Callable[[], int]:
    done = {"count": 0}

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if done["count"] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done["count"] += 1
            return function(*arguments, **named)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    return lambda: done["count"]


def _count_questions(stop_asking: int) -> Callable[[], int]:
    from benchmark.train.answers import Answers

    made: list[Answers] = []
    passes = {"count": 0}
    make, again = Answers.__init__, Answers._again

    def mortal(self: Answers, images: Any) -> Any:
        if passes["count"] == stop_asking:
            os.kill(os.getpid(), signal.SIGSTOP)
        passes["count"] += 1
        return again(self, images)

    def noted(self: Answers, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        made.append(self)

    Answers.__init__ = noted  # type: ignore[method-assign]
    Answers._again = mortal  # type: ignore[method-assign]
    return lambda: sum(found.asked for found in made)


def _refuse_locks() -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl.lockf = refused


def _work(job: dict[str, Any]) -> int:
    from benchmark.run.pack_file import read_pack
    from benchmark.train.fill import fill
    from benchmark.train.pack import Surroundings, train_pack
    from benchmark.train.report import Lines

    count = _count_operations(job.get("die_at", -1))
    asked = _count_questions(job.get("stop_asking", -1))
    if job.get("no_locks"):
        _refuse_locks()
    where = Surroundings(checkpoint_seconds=0, reporter=Lines)
    pack = read_pack(job["pack"], "the pack")
    outcome = fill(pack, where) if pack.fills else train_pack(pack, where)
    Path(job["runs_dir"], "operations").write_text(str(count()))
    Path(job["runs_dir"], f"asked-{os.getpid()}").write_text(str(asked()))
    return outcome.exit_code


def main() -> None:
    """Serve."""
    import torch
    import torch._dynamo  # what the first optimiser imports, for a second

    import benchmark.train.fill
    import benchmark.train.pack  # noqa: F401 - so that forked processes have it

    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = _work(job)
            finally:
                os._exit(code)
        print(pid, flush=True)
        status = os.waitpid(pid, 0)[1]
        ended = {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        }
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    main()
