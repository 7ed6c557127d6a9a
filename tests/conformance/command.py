"""The command line in this process."""

from __future__ import annotations

import sys

import pytest

from benchmark.cli import main


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run ``bench`` with these arguments and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0
