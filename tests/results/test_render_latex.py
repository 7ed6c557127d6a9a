"""LaTeX: escaping, structure, and real pages where a LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.results.grid import CellCost, Grid, GridCell, State
from benchmark.results.judge import judge
from benchmark.results.render import latex
from benchmark.results.render.latex_text import ACCENTS, SPECIAL, T1_ACCENTS, escape
from tests.results.grids import claim, measured, published, small, wide, with_cell
from tests.results.latex_syntax import check

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")

NASTY = [
    r"50 % & more_of #1 for $5 {x} ~ ^ \ \\",
    '<b> "quoted" | piped',
    "[first] in a row",
    "* starred",
    r"\input{secret} \end{tabular}",
    "--- ``ligatures'' ?` !` <<",
    "caf\u00e9 \u0141\u00f3d\u017a \u00dfen",
    "\u03b1 = 0.3, \u03c4 \u2264 5 \u2192 \u2265",
    "W\u0105sowicz, \u0218tef\u0103nescu, Nguy\u1ec5n, \u1ecdl\u00e1, \u01d6, co\u0301c\u0301",
    "\u0110\u1ed3 \u00d0 \u00fe \u014b \u0153uvre \u00abx\u00bb \u00a3 \u00a9",
]
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126))


def unescaped(text: str) -> str:
    """What LaTeX would set, for the characters of ASCII."""
    back = {written: plain for plain, written in SPECIAL.items() if plain.isascii()}
    back["{}"] = ""  # breaks a ligature
    pattern = "|".join(re.escape(key) for key in sorted(back, key=len, reverse=True))
    return re.sub(pattern, lambda m: back[m.group()], text)


@given(printable)
def test_ascii_comes_out_as_text(text: str) -> None:
    escaped = escape(text)
    assert unescaped(escaped) == re.sub(" +", " ", text).strip()
    assert not re.search(r"--|``|''|[!?]`", escaped)
    check(escaped)


@given(st.text())
def test_any_text_is_one_closed_ascii_line(text: str) -> None:
    escaped = escape(text)
    assert escaped.isascii()
    assert "\n" not in escaped
    check(escaped)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wrn_40_2", r"wrn\_40\_2"),
        ("\u00e9\u00ef\u0151", r"\'{e}\" {\i}\H{o}".replace(" ", "")),
        ("\u03b1\u03a3\u0391\u03c2", r"$\alpha$$\Sigma$A$\varsigma$"),
        ("\u4e2d", "{[}U+4E2D{]}"),
        ("\u0105", r"{\fontencoding{T1}\selectfont\k{a}}"),
        ("\u1ecd\u0219\u1ecb", r"\d{o}\textcommabelow{s}\d{i}"),
        ("\u1ec7\u01d6", r"\^{\d{e}}\={\"{u}}"),
        ("e\u0301u\u0308\u0304q\u0303", r"\'{e}\={\"{u}}\~{q}"),
        ("i\u0307\u0131\u00ed", r"\.{\i}\i{}\'{\i}"),
        ("\u0111\u0153", r"{\fontencoding{T1}\selectfont\dj}\oe{}"),
        ("\u03b1\u0301\u4e2d\u0301", "{[}U+03AC{]}{[}U+4E2D{]}{[}U+0301{]}"),
        ("\u0301", "{[}U+0301{]}"),
        ("a\nb\tc", "a b c"),
    ],
)
def test_known_characters(text: str, expected: str) -> None:
    assert escape(text) == expected


def full(**fields: Any) -> Grid:
    """Eleven pairs with every kind of cell, claims and footnotes."""
    said = (claim("KD", "better", ["Student"]), claim("KD", "worse", ["DKD"], at_least=1))
    grid = wide(claims=said, made_by="bench collect --table wide", **fields)
    column = grid.columns[0].name
    states = (State.RUNNING, State.QUEUED, State.FAILED, State.DIVERGED, State.MISSING)
    for row, state in zip(("CRD", "OFD", "RKD", "SimKD", "KD"), states, strict=True):
        grid = with_cell(grid, row, column, GridCell(state, planned=3, published=published(70.0)))
    part = measured([70.0, 70.1], planned=3, state=State.PARTIAL, published=published(70.0))
    marked = replace(part, overrides=("recipe.epochs = 3",), diverged_seeds=(2,))
    return judge(with_cell(grid, "DKD", column, marked))


def imagenet() -> Grid:
    """Two metrics, reference rows with extra fields, no groups."""
    grid = small({"Teacher": measured([73.3], exact=True), "KD": measured([70.1])})
    rows = tuple(replace(row, info=(("params", "5M"), ("epochs", "300"))) for row in grid.rows)
    cells = {
        (row.name, "pair", metric): grid.cells[row.name, "pair", "top1"]
        for row in rows
        for metric in ("top1", "top5")
    }
    cells["KD", "pair", "top5"] = GridCell(State.REFERENCE, published=published(90.0))
    cells["KD", "pair", "top1"] = measured([70.1], published=published(70.66))
    return judge(replace(grid, rows=rows, cells=cells, metrics=("top1", "top5")))


def named(name: str) -> Grid:
    grid = small({name: measured([70.0, 71.0], published=published(70.2)), "KD": measured([70.0])})
    column = replace(grid.columns[0], teacher_label=name, student_label=name, group=name)
    rows = tuple(replace(row, group=name) for row in grid.rows)
    said = claim("KD", "better", [name])
    fields: dict[str, Any] = {"title": name, "source": name, "footnotes": (name,)}
    return judge(replace(grid, columns=(column,), rows=rows, claims=(said,), **fields))


GRIDS = {
    "full": full,
    "imagenet": imagenet,
    "costly": lambda: costly(2),
    **{f"name{i}": None for i in range(len(NASTY))},
}


def grid_of(which: str) -> Grid:
    made = GRIDS[which]
    return made() if made else named(NASTY[int(which.removeprefix("name"))])


@pytest.mark.parametrize("which", GRIDS)
@pytest.mark.parametrize("siunitx", [False, True])
def test_structure(which: str, siunitx: bool) -> None:
    grid = grid_of(which)
    for statistics in (None, ("last", "best")):
        check(latex.render(grid, ("paper", "side_by_side"), statistics, siunitx=siunitx))


def test_the_check_finds_mistakes() -> None:
    text = latex.render(full(), ("paper",))
    for wrong in (
        text.replace(r"\bottomrule", r"\bottomrule}"),
        text.replace(r"\end{tabular}", ""),
        text.replace(" & ", " & & ", 1),
        text.replace(r"\midrule", r"\midrule a_b", 1),
    ):
        with pytest.raises(AssertionError):
            check(wrong)


def test_the_header_names_teachers_and_students() -> None:
    lines = latex.render(full(), ("paper",)).splitlines()
    (teacher,) = (line for line in lines if r"& Teacher & \multicolumn" in line)
    (student,) = (line for line in lines if "group & Student" in line)
    assert teacher.count(r"\multicolumn{1}{c}") == 11
    assert [name in student for name in ("resnet20", "VGG8", "MobileNetV2")] == [True] * 3
    assert any(r"\multicolumn{6}{c}{same architecture}" in line for line in lines)


def test_a_fragment_has_no_preamble_and_a_document_has() -> None:
    fragment, document = latex.render(full()), latex.render(full(), document=True)
    assert r"\documentclass" not in fragment
    assert "% " in fragment.splitlines()[0]
    assert document.startswith(r"\documentclass")
    assert r"\begin{landscape}" in document
    assert r"\begin{landscape}" not in latex.render(judge(wide(3)), document=True)


def costly(pairs: int) -> Grid:
    """A Student and a method in several columns, with what they cost; the last column without."""
    grid = small({"Student": measured([70.0]), "50%_more": measured([71.0])})
    columns = tuple(replace(grid.columns[0], name=f"pair_{i}") for i in range(pairs + 1))
    known = {"Student": CellCost(2.0, 78_042, 12_700_000), "50%_more": CellCost(3.0)}
    cells = {
        (name, c.name, "top1"): replace(
            grid.cells[name, "pair", "top1"], cost=cost if c is not columns[-1] else None
        )
        for name, cost in known.items()
        for c in columns
    }
    return judge(replace(grid, columns=columns, cells=cells))


def test_costs_stand_in_floats_of_their_own() -> None:
    text = latex.render(costly(5))
    check(text)
    assert r"Student & 0.08 M, 12.7 MMAC, 1.00x & 0.08 M" in text
    assert r"50\%\_more & 1.50x & 1.50x & 1.50x & 1.50x \\" in text
    assert r"what each row costs (2 of 2)." in text
    assert r"\label{tab:small-costs-2}" in text
    assert text.count("Parameters and multiply-adds of one prediction") == 1
    costs = text[text.index("(1 of 2)") :]
    assert r"pair\_4" in costs
    assert r"pair\_5" not in costs
    assert latex.render(costly(5)) == text


def test_what_nobody_measured_costs_nothing() -> None:
    assert "costs" not in latex.render(full())


def test_siunitx_writes_uncertainties_in_last_digits() -> None:
    grid = judge(small({"a": measured([70.0, 71.0]), "b": measured([60.0, 64.0])}))
    text = latex.render(grid, siunitx=True)
    assert r"\bfseries 70.50(71) " in text
    assert "62.00(283) " in text
    assert "table-format=2.2(3)" in text


def pdf(text: str, folder: Path) -> tuple[str, str]:
    """Compile a document; return its log and the text of its pages."""
    (folder / "page.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    words = ""
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", "page.pdf", "-"]
        words = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
    return done.stdout, words


@needs_latex
def test_a_wide_table_fits_its_page(tmp_path: Path) -> None:
    text = latex.render(full(), ("paper", "side_by_side"), document=True)
    log, words = pdf(text, tmp_path)
    assert not re.search("Overfull|Float too large", log)
    assert "Output written on page.pdf (3 pages" in log
    if words:
        for word in ("DHKD + ReviewKD", "MobileNetV2", "running", "failed", "diverged", "missing"):
            assert word in words


@needs_latex
def test_every_name_compiles(tmp_path: Path) -> None:
    pages = [latex.render(named(name), ("paper", "side_by_side")) for name in NASTY]
    head, tail = latex.render(imagenet(), document=True).split(r"\end{document}")
    _, words = pdf("\n".join([head, *pages, r"\clearpage\end{document}", tail]), tmp_path)
    if words:
        for word in ("quoted", r"\input{secret}", "[first] in a row", "secret} \\end{tabular}"):
            assert word in words


@needs_latex
def test_siunitx_compiles(tmp_path: Path) -> None:
    known = subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, text=True)
    if not known.stdout.strip():
        pytest.skip("siunitx is not installed")
    log, _ = pdf(latex.render(full(), siunitx=True, document=True), tmp_path)
    assert "Overfull" not in log


def test_every_accent_is_a_command_of_the_kernel() -> None:
    of_t1 = {ACCENTS[mark] for mark in T1_ACCENTS}
    assert set(ACCENTS.values()) <= {*"`'^~\"=.uvHrcdb", "textcommabelow", *of_t1}
