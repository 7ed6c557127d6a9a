"""What the library logs reaches people through the command line alone."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from benchmark.base.log import logger, reporting, say
from tests.cli.command import bench


def test_lines_appear_while_a_program_reports(capsys: pytest.CaptureFixture[str]) -> None:
    say("before")
    with reporting():
        say("one", "100 % of two")
        logger.debug("a detail")
    say("after")
    assert capsys.readouterr() == ("", "one\n100 % of two\n")


def test_names_of_others_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with reporting():
        say("left out: a\x1b[2Jb\rc")
    assert capsys.readouterr().err == "left out: a\\x1b[2Jb\\rc\n"
    name = "x\x1b]0;y"
    ended = bench("plan", "--table", tmp_path / f"{name}.yaml")
    assert ended.code == 2
    assert "x\\x1b]0;y.yaml does not exist" in ended.err


def test_verbose_says_what_is_read_with_times(tmp_path: Path) -> None:
    words = ("collect", "-t", "digits", "--runs", tmp_path, "--out", tmp_path)
    plain = bench(*words)
    loud = bench("--verbose", *words)
    assert plain.out == loud.out
    assert plain.err == f"no runs of digits in {tmp_path}\n"
    assert any(" load: " in line and "digits.yaml" in line for line in loud.err.splitlines())
    assert not any(isinstance(h, logging.StreamHandler) for h in logger.handlers)
