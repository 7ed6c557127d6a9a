"""Every example of docs/python.md runs, in order, as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.mark.slow
def test_the_examples_run(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(digits))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = DOCS.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    known: dict[str, Any] = {"folder": tmp_path}
    for block in blocks:
        line = text[: block.start()].count("\n") + 1
        code = "\n" * line + block[1]  # errors name the line of the page
        exec(compile(code, str(DOCS), "exec"), known)
    assert {path.name for path in known["files"]} == {"digits.md", "digits.tex"}


def test_the_page_names_the_whole_face() -> None:
    import benchmark

    named = re.findall(r"^\| `benchmark\.(\w+)\(", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == benchmark.__all__
    assert all(callable(getattr(benchmark, name)) for name in named)
    assert set(named) <= set(dir(benchmark))
