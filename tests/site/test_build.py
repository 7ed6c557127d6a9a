"""The files of a report: links that lead somewhere, what is written again, bad input."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import webbrowser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from benchmark.site.charts import Line, line_chart, nice
from benchmark.site.run_page import charts
from tests.cli.command import bench
from tests.site.conftest import HOSTILE, builder, write_all, write_table


class Links(HTMLParser):
    """What a page points at, and the places in it that can be pointed at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.targets.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_every_link_leads_somewhere(report: Path) -> None:
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in report.rglob("*.html")}
    assert len(pages) == 4 + 16
    for path, links in pages.items():
        assert len(links.ids) == len(set(links.ids)), path
        for target in links.targets:
            file, place = urldefrag(target)
            there = (path.parent / unquote(file)).resolve() if file else path
            assert there.exists(), (path.name, target)
            assert report.resolve() in there.resolve().parents, target
            if place and there in pages:
                assert unquote(place) in pages[there].ids, (path.name, target)


def test_nothing_is_asked_of_a_network(report: Path) -> None:
    for path in report.rglob("*.*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text(encoding="utf-8").replace("http://tristen.ca/", "")
            assert "http://" not in text.replace("http://www.w3.org/", ""), path
            assert "https://" not in text, path


def test_what_others_wrote_is_escaped(report: Path) -> None:
    for path in report.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<img src=x" not in text, path
        assert "<b>bold" not in text, path
        assert "49" not in text.split("<main")[1] or "{{7*7}}" in text or "runs" in str(path)
    assert HOSTILE.replace("&", "&amp;").replace("<", "&lt;").split("&")[0] in (
        report / "index.html"
    ).read_text(encoding="utf-8")


def test_only_what_changed_is_written(hostile: Path, tmp_path: Path) -> None:
    write_table(tmp_path)
    write_all(tmp_path / "hostile.yaml", tmp_path / "runs", seeds=(0,))
    site = builder(tmp_path, tmp_path / "out")

    def times() -> dict[str, int]:
        found = (tmp_path / "out").rglob("*.*")
        return {str(p.relative_to(tmp_path / "out")): p.stat().st_mtime_ns for p in found}

    site.write()
    first = times()
    site.write()
    changed = {name for name, when in times().items() if first[name] != when}
    assert changed <= {"queue.html", "assets/stamp.js"}  # the hour
    write_all(tmp_path / "hostile.yaml", tmp_path / "runs", seeds=(1,))
    site.write()
    after = times()
    assert len([name for name in after if name not in first]) == 8
    assert all(first[name] == after[name] for name in first if name.startswith("runs/"))
    assert first["tables/hostile.html"] != after["tables/hostile.html"]


def test_pages_of_runs_that_are_gone_go(tmp_path: Path) -> None:
    write_table(tmp_path)
    write_all(tmp_path / "hostile.yaml", tmp_path / "runs", seeds=(0,))
    builder(tmp_path, tmp_path / "out").write()
    (gone, *_) = (tmp_path / "runs").glob("*-dkd-*")
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    builder(tmp_path, tmp_path / "out").write()
    assert not (tmp_path / "out" / "runs" / f"{gone.name}.html").exists()


def test_a_run_without_readable_records_has_a_page(tmp_path: Path) -> None:
    write_table(tmp_path)
    write_all(tmp_path / "hostile.yaml", tmp_path / "runs", seeds=(0,))
    (one, *_) = (tmp_path / "runs").glob("*-dkd-*")
    page = tmp_path / "out" / "runs" / f"{one.name}.html"
    (one / "records.jsonl").write_text("nothing\n")
    builder(tmp_path, tmp_path / "out").write()
    assert page.read_text(encoding="utf-8").count("records.jsonl cannot be read") == 1
    odd = ['{"epoch": "<b>"}', '{"epoch": 1, "losses": ["<b>"], "lr": [1], "test_top1": true}']
    (one / "records.jsonl").write_text("\n".join([*odd, '{"epoch": 2, "lr": 0.1}', ""]))
    builder(tmp_path, tmp_path / "out").write()
    assert "<b>" not in page.read_text(encoding="utf-8")


def test_bad_input_is_one_line(tmp_path: Path, hostile: Path) -> None:
    for words in (
        ["--runs", tmp_path],
        ["--table", "digit", "--runs", hostile / "runs"],
        ["--table", "digits", "--figures", "curve", "--runs", hostile / "runs"],
    ):
        said = bench("report", *words, "--out", tmp_path / "out")
        assert said.code == 2, said
        assert len(said.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    taken = bench("report", "-t", "digits", "--runs", hostile / "runs", "--out", tmp_path / "file")
    assert taken.code == 2


@pytest.mark.slow
def test_figures_of_a_table_with_a_network_of_its_own_say_how_they_were_made(
    hostile: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from benchmark.models import model\n\n\n@model()\ndef my_net(num_classes):\n    pass\n"
    )
    table = tmp_path / "hostile.yaml"
    table.write_text((hostile / "hostile.yaml").read_text() + "plugins: [mine.py]\n")
    where = ("--runs", hostile / "runs", "--out", tmp_path / "out")
    said = bench("report", "-t", table, "--figures", "forest", *where)
    assert said.code == 0, said.err
    told = json.loads((tmp_path / "out" / "figures" / "hostile-forest.json").read_text())
    assert told["made_by"].startswith("bench figures --table hostile.yaml --kind forest (kd-")


@pytest.mark.slow
def test_figures_stand_in_the_tables_page(hostile: Path, tmp_path: Path) -> None:
    table = hostile / "hostile.yaml"
    said = bench(
        "report", "-t", table, "--figures", "forest", "--runs", hostile / "runs", "--out", tmp_path
    )
    assert said.code == 0, said.err
    assert str(tmp_path / "index.html") in said.out
    assert "hostile-forest.png" in (tmp_path / "tables" / "hostile.html").read_text()
    assert json.loads((tmp_path / "figures" / "hostile-forest.json").read_text())["runs"]


def test_a_report_is_opened_where_there_is_a_screen(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    monkeypatch.setattr(webbrowser, "_tryorder", None)  # asked anew
    words = ("report", "-t", hostile / "hostile.yaml", "--runs", hostile / "runs", "--open")
    for screen in ("", ":0"):
        monkeypatch.setenv("DISPLAY", screen)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert bench(*words, "--out", tmp_path / "a b").code == 0
        assert (tmp_path / "opened").exists() is bool(screen)
    assert (tmp_path / "opened").read_text() == (tmp_path / "a b/index.html").as_uri() + "\n"


@pytest.mark.slow
def test_watching_ends_with_a_word(hostile: Path, tmp_path: Path) -> None:
    # A script's background jobs ignore the signal, and so would what they start.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{heard}; from benchmark.cli import main; main()"
    command = [sys.executable, "-c", program, "report", "--watch", "--every", "1"]
    command += ["--out", tmp_path, "-t", hostile / "hostile.yaml"]
    with subprocess.Popen([*command, "--runs", hostile / "runs"]) as process:
        try:
            stamp = tmp_path / "assets" / "stamp.js"
            until = time.monotonic() + 120
            while not stamp.exists() and time.monotonic() < until:
                time.sleep(0.1)
            assert '"follow": true' in stamp.read_text()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()  # else leaving the block waits for it
    assert '"follow": false' in stamp.read_text()
    assert "data-follow" in (tmp_path / "index.html").read_text()


def test_charts_say_what_they_show() -> None:
    records = [
        {"epoch": n, "lr": 0.1 if n < 3 else 0.01, "test_top1": 50.0 + n, "losses": {"ce": 1 / n}}
        for n in range(1, 6)
    ]
    records[2]["losses"] = {"ce": None}  # diverged for an epoch
    accuracy, losses, rate = charts(records, 53.0)
    assert 'aria-label="Top-1 accuracy (%). test from 51 to 55 %"' in accuracy
    assert "published 53" in accuracy
    assert losses.count('class="drop"') == 2  # the line and its legend
    assert len(losses.split('points="')[1].split('"')[0].split()) == 4
    assert rate
    assert charts([], None) == []
    assert line_chart("flat", [Line("a", [(1, 2.0), (2, 2.0)])])


def test_long_numbers_have_room_and_every_line_named_is_drawn() -> None:
    chart = line_chart("loss", [Line("a", [(1, 0.02231), (2, 0.02239)])])
    ticks = re.findall(r'<text class="tick" x="([0-9.]+)"[^>]*"end">([-0-9.e]+)<', chart)
    assert max(len(text) for _, text in ticks) >= 7
    assert all(float(x) >= 7 * len(text) for x, text in ticks), ticks
    records = [{"epoch": n, "test_top1": 70.0 + n, "train_top1": 30.0 + n} for n in range(1, 9)]
    accuracy, *_ = charts(records, None)
    lines = re.findall(r'points="([^"]*)"', accuracy)
    assert "training" in accuracy
    assert [len(line.split()) >= 7 for line in lines] == [True, True]
    hidden = line_chart("x", [Line("a", [(1, 5.0), (2, 6.0)]), Line("b", [(1, 1.0)])], zoom=5.0)
    assert "polyline" in hidden
    assert ">b<" not in hidden


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 97.0), (71.1, 71.3), (1e-6, 2e-6)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = nice(low, high, 4)
    assert 2 <= len(ticks) <= 5
    assert all(low <= tick <= high for tick in ticks)
