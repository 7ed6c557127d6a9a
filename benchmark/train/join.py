"""How the processes of a pack find each other, and what is compared before they train."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from benchmark.base.errors import UserError
from benchmark.base.files import read_json, write_json
from benchmark.base.origin import code_digest
from benchmark.run.identity import SCHEMA
from benchmark.train.crew import Interrupted
from benchmark.train.place import Place
from benchmark.train.processes import PATIENCE, Processes
from benchmark.train.provenance import versions

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 300.0  # of nodes that start at different times
_READING_SECONDS = 10.0
_LISTENS = "BENCH_JOIN_SECONDS"


def join(
    place: Place,
    stop: Callable[[], str | None] = lambda: None,
    alive: Callable[[], str | None] = lambda: None,
    opened: Callable[[int], None] = lambda _: None,
) -> Processes:
    """Return a crew of all processes once each of them is there.

    ``stop`` returns why not to wait any longer, ``alive`` what became of a process that has ended,
    if one has; ``opened`` is told the port that the first process listens at. Raises UserError:
    for a port in use, a process that does not come, and for processes that run other versions;
    Interrupted.
    """
    deadline = time.monotonic() + float(os.environ.get(_LISTENS, _PATIENCE_SECONDS))

    def wait(what: str, there: Callable[[], bool]) -> None:
        while not there():
            reason = stop()
            if reason is not None:
                raise Interrupted(reason)
            gone = alive()
            if gone is not None:
                raise UserError(gone)
            if time.monotonic() > deadline:
                raise UserError(f"{what} did not come in time (set {_LISTENS} to wait longer)")
            time.sleep(_POLL_SECONDS)

    store = _store(place, wait, opened)
    try:
        return _joined(place, store, wait, stop, alive)
    except (RuntimeError, OSError) as error:  # torch's, where a peer or its machine goes away
        raise UserError(f"the processes of the run lost each other: {_line(error)}") from error
    finally:
        if place.meeting is not None and place.process == 0:
            with contextlib.suppress(OSError):
                place.meeting.unlink(missing_ok=True)


def _joined(
    place: Place,
    store: Any,
    wait: Callable[[str, Callable[[], bool]], None],
    stop: Callable[[], str | None],
    alive: Callable[[], str | None],
) -> Processes:
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"bench/{attempt}", store)  # type: ignore[attr-defined]
    store.set(f"here/{place.process}", json.dumps(facts()))
    for process in range(place.processes):
        key = f"here/{process}"
        wait(f"process {process} of {place.processes}", lambda key=key: store.check([key]))  # type: ignore[misc]
    found = [json.loads(store.get(f"here/{p}")) for p in range(place.processes)]
    store.set(f"read/{place.process}", "yes")
    try:
        check_alike(found)
    except UserError:
        if place.process == 0:  # it holds what the others are still to read
            _let_all_read(store, place.processes)
        raise
    dist.init_process_group(
        "gloo", store=store, rank=place.process, world_size=place.processes, timeout=PATIENCE
    )
    return Processes(place.local, stop, alive)


def _let_all_read(store: Any, processes: int) -> None:
    deadline = time.monotonic() + _READING_SECONDS
    keys = [f"read/{process}" for process in range(processes)]
    while not store.check(keys) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _store(
    place: Place,
    wait: Callable[[str, Callable[[], bool]], None],
    opened: Callable[[int], None],
) -> Any:
    listens = place.process == 0 and not place.hosted
    host, port = place.host, place.port
    if place.meeting is not None and not listens:
        wait("the first process", place.meeting.exists)
        said = read_json(place.meeting, SCHEMA)
        host, port = said["host"], said["port"]
    if not listens:
        wait(f"the first process, at {host}:{port},", lambda: _answers(host, port))
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            host if not listens else "0.0.0.0" if place.meeting is not None else host,
            port,
            is_master=listens,
            timeout=timedelta(seconds=60),
            wait_for_workers=False,
        )
    except (RuntimeError, OSError) as error:
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise UserError(
                f"port {port} on {socket.gethostname()} is in use; set MASTER_PORT to a free one"
            ) from error
        raise UserError(f"{host}:{port} cannot be reached: {_line(error)}") from error
    if listens:
        opened(store.port)
        if place.meeting is not None:
            write_json(
                place.meeting,
                {"schema": SCHEMA, "host": socket.gethostname(), "port": store.port},
            )
    return store


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def facts() -> dict[str, Any]:
    """Return what must be the same in all processes of a run, and the host that says so."""
    return {
        "host": socket.gethostname(),
        "code": code_digest(),
        **versions(),
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
    }


def check_alike(found: list[Mapping[str, Any]]) -> None:
    """Raise UserError if a process runs other versions than the first one."""
    first = found[0]
    for number, other in enumerate(found):
        for name in sorted({*first, *other} - {"host"}):
            if first.get(name) != other.get(name):
                raise UserError(
                    f"{other['host']} (process {number}) has {name} {other.get(name)}, and"
                    f" {first['host']} (process 0) has {first.get(name)}: all processes of a run"
                    " must run the same"
                )


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
