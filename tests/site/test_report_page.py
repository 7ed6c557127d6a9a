"""The commands of docs/report.md work in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documented import run_page


@pytest.mark.slow
def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_page("report.md")
    assert "written: 1 table and 6 runs" in printed["bench report"]
    text = (tmp_path / "report" / "tables" / "digits.html").read_text(encoding="utf-8")
    assert "digits-curves-wrn_16_2-resnet8.png" in text
    assert (tmp_path / "report" / "downloads" / "digits.tex").exists()
