"""Reports of real runs and of a published column, and a real Chromium to look at them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from benchmark.planning.matrix import Context, make_plan
from benchmark.site.build import SiteBuilder
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from perf.synthetic_runs import write_run
from tests.results.conftest import cache as cache

NOWHERE = Path("/nonexistent")
HOSTILE = "<img src=x onerror=\"document.title='owned'\">'\"&amp;{{7*7}}"
TABLE = """
schema: 1
name: hostile
title: {title}
source: {{paper: {title}}}
dataset: digits
recipe: digits_60
recipe_overrides: {{epochs: 40, schedule: {{milestones: [25]}}}}
teacher: {{from: train, seed: same}}
seeds: [0, 1]
note: {title}
columns:
  - {{teacher: wrn_16_2, student: resnet8}}
  - {{teacher: wrn_40_2, student: wrn_16_1}}
rows:
  - {{name: Teacher, of: teacher, group: {title}}}
  - {{name: Student, of: student}}
  - {{name: {title}, methods: [kd]}}
  - {{name: DKD, methods: [dkd]}}
published:
  DKD:
    wrn_16_2-resnet8: {{value: 70.5, source: {title}}}
    wrn_40_2-wrn_16_1: {{value: 65.0, source: {title}}}
  Student:
    wrn_16_2-resnet8: {{value: 70.0, source: {title}}}
    wrn_40_2-wrn_16_1: {{value: 70.1, source: {title}}}
claims:
  - {{text: {title}, source: {title}, expect: {{row: DKD, relation: better, than: [Student]}}}}
"""


def write_table(folder: Path) -> Path:
    """Write a table whose every text tries to become markup."""
    path = folder / "hostile.yaml"
    path.write_text(TABLE.format(title="'" + HOSTILE.replace("'", "''") + "'"))
    return path


def write_all(table: Path, runs_dir: Path, seeds: tuple[int, ...] = (0, 1)) -> None:
    """Write made-up runs of a table, with whole curves."""
    planned = make_plan(load_table(str(table)), Selection(seeds=seeds), Context(NOWHERE, "cpu"))
    values = {"kd": 71.0, "dkd": 70.5, "": 70.0}
    for run in planned.runs:
        if not (runs_dir / run.key).exists():
            names = "".join(method.name for method in run.methods)
            write_run(runs_dir, run, values[names], spread=0.2, curve=True)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a hostile table, its runs, one of which failed, and a damaged directory."""
    root = tmp_path_factory.mktemp("site")
    table = write_table(root)
    write_all(table, root / "runs")
    (one, *_) = sorted((root / "runs").glob("*-dkd-s1-*"))
    (one / "result.json").unlink()
    (one / "failure.json").write_text(json.dumps({"schema": 1, "reason": HOSTILE}))
    broken = root / "runs" / "digits-<b>bold-s0-0123456789ab"
    broken.mkdir()
    (broken / "cell.json").write_text("{")
    return root


def builder(root: Path, out: Path, follow: bool = False) -> SiteBuilder:
    """Return what writes the report of :func:`hostile`."""
    return SiteBuilder(out, root / "runs", NOWHERE, [str(root / "hostile.yaml")], follow=follow)


@pytest.fixture(scope="module")
def report(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of it, below a path that a careless link would break."""
    out = tmp_path_factory.mktemp("a b#c%20d") / "é?"
    builder(hostile, out).write()
    return out


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium (Debian's package chromium)")
        pytest.skip("no Chromium here")
    with sync_playwright() as playwright:
        # Containers have no sandbox of their own to give.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not complain, nor ask anything but files."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith("file:") else complaints.append(r.url))
    yield page
    context.close()
    assert not complaints
