"""What this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import existing_place
from benchmark.base.machine import memory_mb, visible_cpus, visible_gpus
from benchmark.base.words import count
from benchmark.data.datasets import dataset_infos
from benchmark.data.sidecar import read_sidecar
from benchmark.slurm import commands
from benchmark.table.teachers import checkpoint_file, registry, teachers_dir

_PACKAGES = ("torch", "torchvision", "timm", "pandas", "scipy", "submitit", "matplotlib")


@dataclass(frozen=True)
class Finding:
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


def examine(runs_dir: Path, data_dir: Path) -> list[Finding]:
    """Look at everything; nothing is changed."""
    return [
        *_packages(),
        *_readers(),
        *_devices(),
        _slurm(),
        _latex(),
        *_datasets(data_dir),
        _teachers(),
        _directory("runs", runs_dir),
    ]


def _packages() -> Iterator[Finding]:
    yield Finding("python", sys.version.split()[0])
    for name in _PACKAGES:
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed; run: make install", "broken")


def _readers() -> Iterator[Finding]:
    yield Finding("reader", "resident (raw images, CIFAR and digits)")
    try:
        version = importlib.metadata.version("ffcv")
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "reader",
            "ffcv is not installed: ImageNet cannot be read; it needs libopencv-dev,"
            " libturbojpeg0-dev, pkg-config and g++, then: pip install -e .[ffcv]",
            "missing",
        )
        return
    # Importing it loads native libraries, which is where it fails; in a process of its own.
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import ffcv"], capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        yield Finding("reader", f"ffcv {version} does not import within two minutes", "missing")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Finding("reader", f"ffcv {version} does not import: {last}", "missing")
    else:
        yield Finding("reader", f"ffcv {version}")


def _devices() -> Iterator[Finding]:
    yield Finding("cpu", f"{count(visible_cpus(), 'CPU')}, {memory_mb() / 1024:.0f} GiB of memory")
    gpus = visible_gpus()
    if gpus:
        yield Finding("gpu", f"{len(gpus)} visible ({', '.join(gpus)})")
    else:
        yield Finding("gpu", "none; runs with `device: auto` train on the CPU", "note")


def _slurm() -> Finding:
    path = shutil.which("sbatch")
    if path is None:
        return Finding("slurm", "no sbatch on PATH; the local executor is the default", "note")
    try:
        reply = commands.call(["scontrol", "ping"])
    except commands.SlurmError as error:
        return Finding("slurm", f"{path}, but scontrol ping fails: {error}", "missing")
    answer = (reply.out.strip() or reply.err.strip()).splitlines() or ["no answer"]
    return Finding("slurm", f"{path}; {answer[0]}", "ok" if reply.code == 0 else "missing")


def _latex() -> Finding:
    path = shutil.which("pdflatex")
    if path is None:
        return Finding("latex", "no pdflatex; tables are written but not compiled here", "note")
    return Finding("latex", path)


def _datasets(data_dir: Path) -> Iterator[Finding]:
    for name, info in sorted(dataset_infos().items()):
        try:
            sidecar = read_sidecar(name, data_dir)
        except UserError as error:
            yield Finding("data", str(error), "broken")
            continue
        if sidecar is None:
            text = f"{name} is not in {data_dir}; make it with: {info.write_command}"
            yield Finding("data", text, "note")
        else:
            kind = "official" if sidecar.official else "altered"
            yield Finding("data", f"{name}: {sidecar.images}, {kind}")


def _teachers() -> Finding:
    known = registry().teachers
    there = [t.model for t in known if checkpoint_file(t)]
    text = f"{len(there)} of {len(known)} public checkpoints in {teachers_dir()}"
    if not there:
        return Finding(
            "teachers", f"{text}; the others are trained, or: bench teachers fetch", "note"
        )
    return Finding("teachers", f"{text} ({', '.join(there)})")


def _directory(what: str, path: Path) -> Finding:
    place = existing_place(path)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(what, f"{path} is not writable", "broken")
    free = shutil.disk_usage(place).free / 2**30
    return Finding(what, f"{path}, {free:.0f} GiB free")
