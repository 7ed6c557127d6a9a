"""Processes that start warm: forked from one that has imported what training needs.

Imports are three processor seconds of every pack, which on small data is half of it. The queue asks
one process, the nursery, for a child a pack. It holds no CUDA context and no second thread, so
that a child is as good as a process of its own: same isolation, same log, same signals. Where there
is no nursery (any more), packs start cold. Imports no torch before it is asked to serve.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COMMAND = ("-m", "benchmark.cli.job", "nursery")
_MESSAGE = 1 << 16  # bytes


class Nursery:
    """The queue's side. ``alive`` until it could not be spoken to.

    ``command``: what Python runs; the number of a socket follows it.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-u", *command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self._children: dict[int, WarmProcess] = {}
        self.alive = True

    def start(self, words: list[str], log: int, answer: int) -> WarmProcess | None:
        """Ask for a child that trains a pack; None if that cannot be asked for."""
        number = len(self._children)
        asked = json.dumps({"number": number, "words": words}).encode()
        try:
            socket.send_fds(self._connection, [asked], [log, answer])
        except OSError:
            self.alive = False
            return None
        self._children[number] = WarmProcess(self)
        return self._children[number]

    def listen(self) -> None:
        """Take in what became of the children."""
        while self.alive:
            try:
                message, files, *_ = socket.recv_fds(self._connection, _MESSAGE, 1)
            except BlockingIOError:
                return
            except OSError:
                message, files = b"", []
            if not message:
                self.alive = False
                return
            told = json.loads(message)
            self._children[told["number"]].told(told, files)

    def close(self) -> None:
        """Let it end; its children go on."""
        self.alive = False
        self._connection.close()
        self._process.wait()


class WarmProcess:
    """A child of the nursery, as the queue sees it: what a ``Popen`` would offer of it.

    ``born`` once it was forked; one that will never be is ``stillborn``, since the nursery ended.
    """

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._handle: int | None = None  # a pidfd: a number of a process may be given anew
        self._asked_to_stop = False
        self.returncode: int | None = None
        self.pid: int | None = None

    @property
    def stillborn(self) -> bool:
        """Whether the nursery ended before it was asked for this one."""
        self._nursery.listen()
        return self.pid is None and not self._nursery.alive

    def told(self, about: dict[str, Any], files: list[int]) -> None:
        """Take in that it was forked, or has ended."""
        if "code" in about:
            self.returncode = about["code"]
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
            return
        self.pid = about["pid"]
        (self._handle,) = files
        if self._asked_to_stop:
            self.terminate()

    def poll(self) -> int | None:
        """Return how it ended; None while it lives. Without a nursery nobody knows its code: 1."""
        self._nursery.listen()
        gone = self._handle is not None and not self._nursery.alive
        if self.returncode is None and gone and _has_ended(self._handle):
            self.returncode = 1
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        self._asked_to_stop = True
        if self._handle is not None and self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGTERM)


def _has_ended(handle: int | None) -> bool:
    assert handle is not None
    return bool(select.select([handle], [], [], 0)[0])


def can_fork_warm() -> bool:
    """Tell whether this system has what the nursery is made of: Linux from 5.3 on."""
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


# -- the nursery's own side -----------------------------------------------------------------------


def serve(descriptor: int, train: Callable[[Path, int, list[str], int], None]) -> int:
    """Fork a child for every pack that is asked for, until the queue is gone; return 0.

    ``train`` trains pack NUMBER of a FOLDER on GPUS and answers through a descriptor. Leaves at
    once, with 1, where something has started a second thread: a child would have lost it.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        return 1
    gc.collect()
    gc.freeze()  # what is here is never garbage, and is not copied for looking at it
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    children: dict[int, int] = {}
    with socket.socket(fileno=descriptor) as connection:
        while True:
            ready, _, _ = select.select([descriptor, woken], [], [])
            if woken in ready:
                os.read(woken, _MESSAGE)
                _reap(connection, children)
            if descriptor not in ready:
                continue
            message, files, *_ = socket.recv_fds(connection, _MESSAGE, 2)
            if not message:
                return 0
            asked = json.loads(message)
            pid = os.fork()
            if pid == 0:
                connection.close()
                signal.set_wakeup_fd(-1)
                _be_born(asked["words"], files, train)
            children[pid] = asked["number"]
            for file in files:
                os.close(file)
            handle = os.pidfd_open(pid)
            told = json.dumps({"number": asked["number"], "pid": pid}).encode()
            socket.send_fds(connection, [told], [handle])
            os.close(handle)


def _reap(connection: socket.socket, children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        told = {"number": children.pop(pid), "code": os.waitstatus_to_exitcode(status)}
        connection.send(json.dumps(told).encode())


def _be_born(words: list[str], files: list[int], train: Callable[..., None]) -> None:
    """Become a process of a pack: a session and a log of its own, no input; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log, answer = files
        for standard in (1, 2):
            os.dup2(log, standard)
        os.close(log)
        folder, number, gpus = words
        train(Path(folder), int(number), gpus.split(",") if gpus else [], answer)
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)  # nothing is left to write: output is not buffered
