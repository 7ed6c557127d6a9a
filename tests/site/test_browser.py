"""A report in a real Chromium: what a person sees, clicks, types and hears."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from benchmark.site.build import SiteBuilder
from tests.site.conftest import HOSTILE, NOWHERE, builder, write_all, write_table

pytestmark = pytest.mark.browser

PAGES = ("index.html", "tables/hostile.html", "runs.html", "queue.html", "a run")


def url(report: Path, name: str) -> str:
    if name == "a run":
        name = f"runs/{sorted((report / 'runs').glob('*-dkd-s0-*'))[0].name}"
    return (report / name).as_uri()


def numbers(page: Page, column: int) -> list[float]:
    """The numbers of the comparisons' column, of visible lines, from top to bottom."""
    texts = page.locator(f"#lines tbody tr:visible td:nth-child({column})").all_inner_texts()
    return [float(text) for text in texts if text.strip()]


def test_the_way_from_the_overview_to_a_run(report: Path, page: Page) -> None:
    page.goto(url(report, "index.html"))
    page.get_by_role("link", name=HOSTILE).click()
    assert page.title() == f"{HOSTILE} · kd-benchmark"
    page.get_by_role("link", name="seed 0 of DKD, WRN", exact=False).or_(
        page.get_by_role("link", name="seed 0 of DKD, wrn_16_2 → resnet8")
    ).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("resnet8-dkd-s0")
    assert page.get_by_role("img").count() == 3
    expect(page.get_by_text("the method's default").first).to_be_visible()
    expect(page.get_by_text("0123456789abcdef").first).to_be_visible()
    page.get_by_role("link", name="hostile").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)


def test_text_of_others_stays_text(report: Path, page: Page) -> None:
    for name in PAGES:
        page.goto(url(report, name))
        assert "owned" not in page.title().replace(HOSTILE, "")
        assert page.locator("main img").count() == 0
        assert page.locator("main b").count() == 0
    page.goto(url(report, "index.html"))
    expect(page.locator("main")).to_contain_text("{{7*7}}")


def test_sorting_by_mouse_and_keyboard(report: Path, page: Page) -> None:
    page.goto(url(report, "tables/hostile.html"))
    button = page.get_by_role("button", name="Difference")
    head = page.locator("#lines th", has=button)
    button.click()
    up = numbers(page, 5)
    assert len(up) == 4
    assert up == sorted(up)
    expect(head).to_have_attribute("aria-sort", "ascending")
    button.focus()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert numbers(page, 5) == up[::-1]
    page.keyboard.press("Space")
    expect(head).to_have_attribute("aria-sort", "ascending")
    page.reload()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert numbers(page, 5) == up


def test_filters_count_and_are_remembered(report: Path, page: Page) -> None:
    page.goto(url(report, "tables/hostile.html"))
    form = page.get_by_role("search", name="Filter the comparisons")
    shown = page.locator("#lines tbody tr:visible")
    assert shown.count() == 8
    form.get_by_label("Find").fill("dkd wrn_40")
    expect(shown).to_have_count(1)
    expect(form.get_by_role("status")).to_have_text("1 of 8 lines")
    form.get_by_label("Find").fill("")
    form.get_by_label("Verdict").select_option("above")
    expect(shown).to_have_count(1)
    page.reload()
    expect(shown).to_have_count(1)
    # A number of the paper's layout leads to its line although that was filtered out.
    page.locator(".paper tbody td a").first.click()
    expect(shown).to_have_count(8)


def test_an_open_page_follows(tmp_path: Path, browser: Browser, page: Page, cache: Path) -> None:
    write_table(tmp_path)
    write_all(tmp_path / "hostile.yaml", tmp_path / "runs", seeds=(0,))
    site = builder(tmp_path, tmp_path / "out", follow=True)
    site.write()
    page.goto(url(tmp_path / "out", "tables/hostile.html"))
    form = page.get_by_role("search", name="Filter the comparisons")
    form.get_by_label("Find").fill("dkd")
    seeds = page.locator("#lines tbody tr:visible td.runs").first
    expect(seeds).to_have_text("0")
    page.wait_for_timeout(500)
    write_all(tmp_path / "hostile.yaml", tmp_path / "runs", seeds=(1,))
    site.write()
    expect(seeds).to_have_text("0 1", timeout=15_000)
    expect(form.get_by_label("Find")).to_have_value("dkd")
    site.end()
    expect(page.locator("[data-live]")).to_contain_text("no longer changes", timeout=15_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(report: Path, browser: Browser, name: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url(report, name))
    found = Axe().run(page).response["violations"]
    context.close()
    told = [(v["id"], v["impact"], [n["html"][:200] for n in v["nodes"]]) for v in found]
    assert not told


@pytest.mark.parametrize("name", PAGES)
def test_narrow_screens_and_paper(report: Path, page: Page, name: str) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(url(report, name))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.emulate_media(media="print")
    expect(page.locator("header.top")).to_be_hidden()
    assert page.locator("form.filters:visible").count() == 0


def test_the_keyboard_reaches_the_content(report: Path, page: Page) -> None:
    page.goto(url(report, "tables/hostile.html"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="In the paper's layout")).to_be_focused()


def test_many_lines_stay_usable(tmp_path: Path, page: Page, cache: Path) -> None:
    from benchmark.table.load import load_table
    from perf.synthetic_runs import write_runs

    write_runs(tmp_path / "runs", load_table("cifar100"), 300)
    SiteBuilder(tmp_path / "out", tmp_path / "runs", NOWHERE, ["cifar100"]).write()
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").rglob("*.html")}
    assert len(sizes) == 304
    assert sizes["runs.html"] < 300_000  # a thousand stay below a megabyte
    assert max(sizes.values()) < 1_000_000
    page.goto(url(tmp_path / "out", "runs.html"))
    page.get_by_label("Find").fill("resnet110")
    shown = page.locator("#runs tbody tr:visible").count()
    assert 0 < shown < 300
    expect(page.get_by_role("status")).to_have_text(f"{shown} of 300 lines")
