"""Shared fixtures. Real images and reference numbers are found through BENCH_FIXTURES."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.recorded"]

# An index of runs, a log of calls, tables of one's own: tests leave the user's real folders alone,
# and do not read them either.
_HOME = tempfile.TemporaryDirectory(prefix="bench-home-", ignore_cleanup_errors=True)
for _kind in ("CACHE", "STATE", "CONFIG"):
    os.environ[f"XDG_{_kind}_HOME"] = f"{_HOME.name}/{_kind.lower()}"

GOLDEN = Path(__file__).parent / "golden"

# Small machines spend their time on thread synchronisation otherwise, and bit-exact tests need
# a fixed count.
torch.set_num_threads(1)

# How long an example takes says nothing on a busy machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_unconfigure() -> None:
    """Remove the folders; the workers of xdist end without it otherwise."""
    _HOME.cleanup()


def fixtures_root() -> Path | None:
    """Return the folder of shared fixtures, or None where there is none."""
    root = os.environ.get("BENCH_FIXTURES")
    return Path(root) if root else None


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plug-ins that a test registers end with it."""
    from benchmark import models
    from benchmark.methods import catalog

    monkeypatch.setattr(catalog, "_plugins", {})
    monkeypatch.setattr(catalog, "_files", {})
    monkeypatch.setattr(models, "_plugins", {})


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The shared fixtures; skips where BENCH_FIXTURES is unset, fails in CI."""
    root = fixtures_root()
    if root is None or not root.is_dir():
        if os.environ.get("CI"):
            pytest.fail("BENCH_FIXTURES must point at the shared fixtures in CI")
        pytest.skip("BENCH_FIXTURES is not set")
    return root


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """What a test compiles counts toward its own limit of versions alone."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the library says."""
    caplog.set_level(logging.INFO, "benchmark")
    return caplog


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the digits written to it."""
    from benchmark.data.write import write_dataset

    data = tmp_path_factory.mktemp("data")
    write_dataset("digits", None, data)
    return data


@pytest.fixture(scope="session")
def few_photographs(tmp_path_factory: pytest.TempPathFactory, fixtures: Path) -> Path:
    """A data directory with ten classes of ImageNet, six training and three test images each."""
    from benchmark.data.write import write_dataset

    folder, data = tmp_path_factory.mktemp("photographs"), tmp_path_factory.mktemp("imagenet")
    for split, count in (("train", 6), ("val", 3)):
        for source in sorted((fixtures / "data/imagenette-subset" / split).iterdir()):
            (folder / split / source.name).mkdir(parents=True)
            for file in sorted(source.iterdir())[:count]:
                (folder / split / source.name / file.name).symlink_to(file)
    write_dataset("imagenet", folder, data, allow_altered=True)
    return data
