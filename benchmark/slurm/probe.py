"""Look at what compute nodes see, by a task of a second, before anything is queued.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, read_json, write_json
from benchmark.slurm import commands
from benchmark.slurm.further import as_arguments
from benchmark.slurm.profile import Profile

_PROBE_SECONDS = 10
_PROBE_VALID_SECONDS = 24 * 3600.0
_ASKED = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "reservation")

# Prints what is wrong, a line each, with the place last.
_LOOK = """
test -w "$1" || echo "$(hostname) cannot write $1"
shift
for place; do test -r "$place" || echo "$(hostname) cannot read $place"; done
"""


def on_a_node(profile: Profile, command: Sequence[str]) -> commands.Reply:
    """Run a command on a node that is free now, as small as can be.

    Nothing is said of memory, of which every site has rules of its own.
    """
    asked = {name: getattr(profile, name) for name in _ASKED if getattr(profile, name) is not None}
    options = [f"--immediate={_PROBE_SECONDS}", *as_arguments(asked), "--job-name=benchprobe"]
    if profile.wckey is not None:
        options.append(f"--wckey={profile.wckey}")
    size = ["--nodes=1", "--ntasks=1", "--time=1", "--chdir=/"]
    return commands.call(["srun", *options, *size, *command])


def installed() -> list[Path]:
    """Return what tasks start from: this Python, and the packages beside it."""
    return [Path(sys.executable), Path(sysconfig.get_path("purelib"))]


def check_visible(runs: Path, profile: Profile, reads: Sequence[Path] = ()) -> str | None:
    """Check that compute nodes may write the runs directory (by a probe file) and read the rest.

    ``reads``: files and folders that tasks read, besides the Python that they start. Runs one
    task of a second; a success is remembered for a day. Returns a line to show where no node was
    free to ask. Makes the runs directory; raises UserError if a node does not see one of them.
    """
    make_directory(runs)
    asked = [str(path.absolute()) for path in (runs, *reads, *installed())]  # as they are spelt
    note = _probe_note(runs, profile)
    known = _seen_lately(note)
    if known.issuperset(asked):
        return None
    probe = runs.absolute() / f".probe-{secrets.token_hex(6)}"
    probe.write_text("", encoding="utf-8")
    try:
        reply = on_a_node(profile, ["sh", "-c", _LOOK, "sh", str(probe), *asked[1:]])
    finally:
        probe.unlink(missing_ok=True)
    if " cannot " in reply.out:
        raise UserError(_unseen(reply.out, runs, probe))
    if reply.code == 0:
        if note is not None:
            with contextlib.suppress(OSError):
                write_json(note, {"schema": 2, "seen": sorted(known | set(asked))})
        return None
    return (
        f"no node was free to check that {runs} is visible there"
        f" ({commands.refusal(reply.err) if reply.code is not None else 'no answer'});"
        " each task checks it when it starts"
    )


def _unseen(said: str, runs: Path, probe: Path) -> str:
    """Return the error for the first line of what the probe said."""
    node, _, place = said.strip().splitlines()[0].partition(" cannot ")
    place = place.partition(" ")[2]
    if place == str(probe):
        return (
            f"{runs.absolute()} cannot be seen or written by compute nodes ({node}); set runs in"
            " the profile, or --runs, to a directory that all nodes share"
        )
    if Path(place) in installed():
        return (
            f"{place} cannot be read by compute nodes ({node}), so no task could start; install"
            " bench, with its Python, where all nodes see it"
        )
    return (
        f"{place} cannot be read by compute nodes ({node}); put it where all nodes see it and name"
        " that by data in the profile, --data, or BENCH_TEACHERS for teachers"
    )


def _seen_lately(note: Path | None) -> set[str]:
    if note is None:
        return set()
    try:
        fresh = time.time() - note.stat().st_mtime < _PROBE_VALID_SECONDS
        return set(read_json(note, 2)["seen"]) if fresh else set()
    except (OSError, UserError, KeyError):
        return set()


def _probe_note(runs: Path, profile: Profile) -> Path | None:
    """Return where a success is remembered; None if nothing can be."""
    stat = runs.stat()
    name = f"probe-{stat.st_dev}-{stat.st_ino}-{profile.partition or 'default'}.json"
    with contextlib.suppress(OSError):
        return commands.state_dir() / name
    return None


class NodeCommands(NamedTuple):
    """Whether a node has the commands that tasks call, after a profile's setup lines."""

    host: str
    scontrol: bool
    squeue: bool


def commands_on_nodes(profile: Profile) -> NodeCommands | None:
    """Return what a node has of Slurm's commands; None if none was free to ask.

    Raises SlurmError if Slurm does not answer or refuses the profile.
    """
    ask = 'echo "bench $(hostname) $(command -v scontrol || echo -) $(command -v squeue || echo -)"'
    lines = "\n".join([*profile.setup, ask])
    command = ["bash", "-c", lines]
    reply = on_a_node(profile, command)
    for line in reply.out.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] == "bench":
            return NodeCommands(words[1], words[2] != "-", words[3] != "-")
    if reply.code == 0 or "Unable to allocate resources" in reply.err or reply.code is None:
        return None
    raise commands.error(["srun"], reply)
