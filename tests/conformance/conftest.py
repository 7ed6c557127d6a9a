"""Plug-ins that end with a test."""

from __future__ import annotations

import pytest

from benchmark.methods import catalog


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_plugins", {})
