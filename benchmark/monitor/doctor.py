"""What this machine has, and what to do about what it lacks."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark import __version__
from benchmark.base.errors import UserError
from benchmark.base.files import existing_place
from benchmark.base.machine import memory_mb, visible_cpus, visible_gpus
from benchmark.base.origin import code_digest, no_commit
from benchmark.base.shipped import code_root, is_installed
from benchmark.base.speed import Form, known_speed, measure_speed
from benchmark.base.words import count
from benchmark.data.datasets import dataset_infos, own_datasets
from benchmark.data.sidecar import read_sidecar
from benchmark.run.answers import answers_root, limit, used
from benchmark.run.lease import check_exclusive
from benchmark.slurm import commands
from benchmark.slurm.probe import commands_on_nodes
from benchmark.slurm.profile import Profile, load_profile
from benchmark.submission.shared import distrust
from benchmark.table.teachers import checkpoint_file, registry, teachers_dir

_TRUST = "git config --global --add safe.directory"
# What FFCV is built from, besides pip: see setup.cfg's extra of that name.
_FFCV_NEEDS = "libopencv-dev libturbojpeg0-dev pkg-config g++ python3-dev"
_PACKAGES = ("torch", "torchvision", "timm", "pandas", "scipy", "submitit", "matplotlib")


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at; ``broken``: nothing can be trained until it is mended."""

    what: str
    text: str
    mark: str = "ok"

    @property
    def broken(self) -> bool:
        """Whether this must be mended."""
        return self.mark == "broken"

    def line(self) -> str:
        """Return the finding as a line."""
        return f"{self.mark:8} {self.what:12} {self.text}"


def examine(
    runs_dir: Path, data_dir: Path, measure: bool | None = None, profile: str | None = None
) -> list[Diagnosis]:
    """Look at everything; nothing is changed but the user's cache.

    ``measure`` the CPU's speed: anew, not at all, or (None) unless it is known. ``profile``: also
    look at a compute node, by a task of a second that this profile asks for. Raises UserError if
    there is no such profile.
    """
    return [
        *_code(),
        _user(),
        *_packages(),
        *_readers(),
        *_devices(),
        *_speed(measure),
        *_slurm(),
        *(_nodes(load_profile(profile)) if profile is not None else ()),
        _latex(),
        *_datasets(data_dir),
        _teachers(),
        _directory("runs", runs_dir),
        *_sharing(runs_dir),
        *_links(runs_dir),
        _answers(runs_dir),
    ]


def _code() -> Iterator[Diagnosis]:
    where = "installed" if is_installed() else "a checkout"
    yield Diagnosis("bench", f"{__version__}, {where} in {code_root()}, code {code_digest()}")
    why = no_commit()
    if why is not None:
        yield Diagnosis("git", f"{why}; if you trust it: {_TRUST} {code_root()}", "note")


def _user() -> Diagnosis:
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        text = f"{os.geteuid()} has no name on this machine (no passwd entry); its number is shown"
        return Diagnosis("user", text, "note")
    return Diagnosis("user", name)


def _packages() -> Iterator[Diagnosis]:
    yield Diagnosis("python", sys.version.split()[0])
    for name in _PACKAGES:
        try:
            yield Diagnosis(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            mend = f"pip install {name}" if is_installed() else "make install"
            yield Diagnosis(name, f"not installed; run: {mend}", "broken")


def _readers() -> Iterator[Diagnosis]:
    yield Diagnosis("reader", "resident (raw images, CIFAR and digits)")
    try:
        version = importlib.metadata.version("ffcv")
    except importlib.metadata.PackageNotFoundError:
        yield Diagnosis(
            "reader",
            "ffcv is not installed: ImageNet cannot be read; on Debian or Ubuntu:"
            f" apt-get install -y {_FFCV_NEEDS} && {_ffcv_command()}",
            "missing",
        )
        return
    # Importing it loads native libraries, which is where it fails; in a process of its own.
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", "import ffcv"], capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        yield Diagnosis("reader", f"ffcv {version} does not import within two minutes", "missing")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Diagnosis("reader", f"ffcv {version} does not import: {last}", "missing")
    else:
        yield Diagnosis("reader", f"ffcv {version}")


def _ffcv_command() -> str:
    return "pip install 'kd-benchmark[ffcv]'" if is_installed() else "make install"


def _devices() -> Iterator[Diagnosis]:
    yield Diagnosis(
        "cpu", f"{count(visible_cpus(), 'CPU')}, {memory_mb() / 1024:.0f} GiB of memory"
    )
    gpus = visible_gpus()
    if gpus:
        yield Diagnosis("gpu", f"{len(gpus)} visible ({', '.join(gpus)})")
    else:
        yield Diagnosis("gpu", "none; runs with `device: auto` train on the CPU", "note")


def _speed(measure: bool | None) -> Iterator[Diagnosis]:
    """Say how fast the CPU trains, and whether bfloat16 pays on it."""
    if measure is False:
        return
    found = (None if measure else known_speed()) or measure_speed()
    if found is None:
        text = "could not be measured: torch is missing, or other work took this machine's time"
        yield Diagnosis("speed", f"{text}; bench doctor --speed tries again", "note")
        return
    yield Diagnosis("speed", f"{found.words()}; bench doctor --speed measures anew")
    gain = found.gain(Form.BF16)
    if gain is not None and gain < 1:
        text = f"bfloat16 takes {1 / gain:.1f} times as long as float32 on this CPU"
        yield Diagnosis("speed", text, "note")


def _slurm() -> Iterator[Diagnosis]:
    path = shutil.which("sbatch")
    if path is None:
        yield Diagnosis("slurm", "no sbatch on PATH; the local executor is the default", "note")
        return
    try:
        reply = commands.call(["scontrol", "ping"])
    except commands.SlurmError as error:
        yield Diagnosis("slurm", f"{path}, but scontrol ping fails: {error}", "missing")
        return
    answer = (reply.out.strip() or reply.err.strip()).splitlines() or ["no answer"]
    yield Diagnosis("slurm", f"{path}; {answer[0]}", "ok" if reply.code == 0 else "missing")
    if reply.code == 0:
        yield from _memory_of_nodes()


def _nodes(profile: Profile) -> Iterator[Diagnosis]:
    """Say if compute nodes lack a command that tasks call."""
    try:
        found = commands_on_nodes(profile)
    except commands.SlurmError as error:
        yield Diagnosis("nodes", f"profile {profile.name}: {error}", "missing")
        return
    if found is None:
        yield Diagnosis("nodes", f"profile {profile.name}: no node was free to look at", "note")
    elif not found.scontrol:
        text = (
            f"no scontrol on {found.host}, where profile {profile.name} leads: tasks train there,"
            " but cannot be requeued, so each must end within its time limit; put it on PATH by a"
            " line of setup"
        )
        yield Diagnosis("nodes", text, "missing")
    elif not found.squeue:
        text = f"no squeue on {found.host}: students cannot look for a teacher that was sent again"
        yield Diagnosis("nodes", text, "note")
    else:
        yield Diagnosis("nodes", f"profile {profile.name}: {found.host} has Slurm's commands")


def _memory_of_nodes() -> Iterator[Diagnosis]:
    """Say if nodes have no configured memory: Slurm then refuses every amount but 1 MB."""
    with contextlib.suppress(commands.SlurmError):
        reply = commands.call(["sinfo", "--all", "--noheader", "--format=%m"])
        sizes = {line.strip().rstrip("+") for line in reply.out.splitlines() if line.strip()}
        if reply.code == 0 and sizes == {"1"}:
            text = "no node has its memory configured, so jobs cannot ask for any (--mem)"
            yield Diagnosis("slurm", text, "note")


def _latex() -> Diagnosis:
    path = shutil.which("pdflatex")
    if path is None:
        return Diagnosis("latex", "no pdflatex; tables are written but not compiled here", "note")
    return Diagnosis("latex", path)


def _datasets(data_dir: Path) -> Iterator[Diagnosis]:
    for name, info in sorted(dataset_infos().items()):
        try:
            sidecar = read_sidecar(name, data_dir)
        except UserError as error:
            yield Diagnosis("data", str(error), "broken")
            continue
        if sidecar is None:
            text = f"{name} is not in {data_dir}; make it with: {info.write_command}"
            yield Diagnosis("data", text, "note")
        else:
            kind = "official" if sidecar.official else "altered"
            yield Diagnosis("data", f"{name}: {sidecar.images}, {kind}")
    for name in own_datasets(data_dir):
        own = read_sidecar(name, data_dir)
        if own is not None:
            yield Diagnosis("data", f"{name}: {own.images}, your own")


def _teachers() -> Diagnosis:
    known = registry().teachers
    there = [t.model for t in known if checkpoint_file(t)]
    text = f"{len(there)} of {len(known)} public checkpoints in {teachers_dir()}"
    if not there:
        return Diagnosis(
            "teachers", f"{text}; the others are trained, or: bench teachers fetch", "note"
        )
    return Diagnosis("teachers", f"{text} ({', '.join(there)})")


def _directory(what: str, path: Path) -> Diagnosis:
    place = existing_place(path)
    if not os.access(place, os.W_OK | os.X_OK):
        return Diagnosis(what, f"{path} is not writable", "broken")
    free = shutil.disk_usage(place).free / 2**30
    return Diagnosis(what, f"{path}, {free:.0f} GiB free")


def _answers(runs_dir: Path) -> Diagnosis:
    try:
        most = limit()
    except UserError as error:
        return Diagnosis("answers", str(error), "broken")
    if not most:
        return Diagnosis("answers", "of teachers are not kept: BENCH_TEACHER_ANSWERS", "note")
    now = used(answers_root(runs_dir)) / 2**30
    text = f"of teachers take {now:.1f} of at most {most / 2**30:.1f} GiB in {runs_dir}"
    return Diagnosis("answers", f"{text}; bench clean --answers removes them")


def _sharing(runs_dir: Path) -> Iterator[Diagnosis]:
    """Say if other users could replace what is submitted."""
    with contextlib.suppress(OSError):
        why = distrust(runs_dir)
        if why is not None:
            text = f"others could replace what you submit in {runs_dir} ({why}): bench init runs"
            yield Diagnosis("runs", text, "note")


def _links(runs_dir: Path) -> Iterator[Diagnosis]:
    """Say if the runs' file system has no hard links, and if leases can do without them."""
    place = existing_place(runs_dir)
    if not os.access(place, os.W_OK | os.X_OK):
        return
    try:
        lacks = check_exclusive(place)
    except UserError as error:
        yield Diagnosis("links", str(error), "broken")
        return
    if lacks is not None:
        yield Diagnosis("links", f"the file system of {runs_dir}: {lacks}", "note")
