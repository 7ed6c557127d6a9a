"""The commands of docs/figures.md work in order, and its table names the kinds there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.figures.make import figure_kinds
from tests.documented import DOCS, run_page


@pytest.mark.slow
def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page("figures.md")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"digits-curves-wrn_16_2-resnet8.pdf", "digits-differences.csv"} <= names
    assert "digits-cost.png" in names
    assert "digits-relative-logits-wrn_16_2-resnet8.pdf" in names


def test_it_names_every_kind() -> None:
    text = (DOCS / "figures.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) == set(figure_kinds())
