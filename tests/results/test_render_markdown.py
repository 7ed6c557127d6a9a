"""GitHub Markdown, read back by a Markdown parser."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from benchmark.results.grid import Grid
from benchmark.results.judge import judge
from benchmark.results.render import markdown
from tests.results.grids import claim, measured, published, small, wide

NASTY = [
    "a | b",
    "**bold** _it_ ~~gone~~ `code`",
    "<b>html</b> &amp; <script>alert(1)</script>",
    "[link](http://x.org) ![img](x) https://x.org www.x.org me@x.org",
    "# not a heading",
    "1. not a list",
    "- nor this",
    "> nor this",
    "\\ backslash \\| pipe",
    "$x_1$ and $$y$$",
    ":smile: and @someone and #12",
    "wrn_40_2 to wrn_16_2",
    "_leading and trailing_ __twice__",
    "CE + BinaryKL*",
    "=====",
    "[^1] [x]: y",
    "\u00e9\u4e2d\u6587 \u03b1",
]
# Whatever a name may hold, as people type names: no control characters, spaces collapsed.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"))
tokens = st.lists(st.one_of(st.sampled_from(NASTY), names), max_size=4).map(" ".join)


def parse(text: str) -> list[list[list[str]]]:
    """The tables of a document as lists of rows of plain cell text."""
    tables: list[list[list[str]]] = []
    for token in (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    ):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level > 2:
            children = token.children or []
            assert all(c.type != "link_open" for c in children), token.content
            text_of = "".join(" " if c.content == "<br>" else c.content for c in children)
            tables[-1][-1].append(re.sub("</?sup>", "", text_of))
    return tables


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def inline(text: str) -> str:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("strikethrough").parse(text)
    return "".join(c.content for t in tokens for c in t.children or [] if c.type == "text")


@given(tokens)
@example(" ".join(NASTY))
def test_any_text_comes_out_as_text(text: str) -> None:
    escaped = markdown.escape(text)
    assert "\n" not in escaped
    assert inline(f"x {escaped}") == f"x {plain(text)}".strip()
    # What GitHub adds to CommonMark: links without brackets, mentions, emoji, math.
    raw = re.sub(r"&#\d+;", "", escaped)
    assert not re.search(r"://|www|@|\$|:[\w+-]+:", raw, re.IGNORECASE)


@pytest.mark.parametrize("name", NASTY)
def test_names_keep_their_place_in_the_table(name: str) -> None:
    cell = measured([70.0, 71.0], published=published(70.2, n=3))
    grid = small({name: cell, "KD": cell}, title=name, source=name)
    column = replace(grid.columns[0], student_label=name)
    text = markdown.render(judge(replace(grid, columns=(column,))))
    paper, pair, *_ = parse(text)
    assert paper[0] == ["Teacher Student", f"resnet56 {plain(name)}"]
    assert [row[0] for row in paper[1:]] == [plain(name), "KD"]
    assert [row[0] for row in pair[1:]] == [plain(name), "KD"]
    assert text.startswith("# ")
    assert f"# {markdown.escape(name)}\n" in text


def test_plain_names_stay_readable() -> None:
    for name in ("wrn_40_2", "CE + BinaryKL", "DHKD (two heads)", "resnet32x4", "Relative KD v2"):
        assert markdown.escape(name) == name


def tables(grid: Grid) -> list[list[list[str]]]:
    return parse(markdown.render(grid))


def test_the_papers_layout() -> None:
    grid = wide(2)
    paper = tables(grid)[0]
    assert paper[0] == ["group", "Teacher Student", "resnet56 resnet20", "resnet110 resnet32"]
    assert len(paper) == 14
    assert all(len(row) == 4 for row in paper)
    # A group is named where it begins.
    assert [row[0] for row in paper[1:5]] == ["baselines", "", "features", ""]
    cell = grid.cells["KD", grid.columns[1].name, "top1"]
    (kd,) = (row for row in paper if row[1] == "KD")
    assert kd[3].replace("*", "") == f"{cell.mean:.2f} \N{PLUS-MINUS SIGN} {cell.std:.2f} (3)"


def test_the_best_is_bold() -> None:
    text = markdown.render(small({"a": measured([70.0]), "b": measured([71.0])}))
    assert "**71.00** (1)" in text
    assert "| 70.00 (1)" in text


def test_side_by_side_has_published_ours_delta_and_verdict() -> None:
    cell = measured([70.0] * 5, best=[70.3] * 5, published=published(70.1, n=5, std=0.2))
    pair = tables(judge(small({"KD": cell})))[1]
    assert pair[0] == [
        "method",
        "published",
        "ours, last",
        markdown.DELTA,
        f"95 % of {markdown.DELTA}",
        "verdict",
        "ours, best",
    ]
    plus_minus = markdown.PLUS_MINUS
    assert pair[1][0].startswith("KD")
    assert pair[1][1:4] == [
        f"70.10 {plus_minus} 0.20 (5)",
        f"70.00 {plus_minus} 0.00 (5)",
        "-0.10",
    ]
    assert "reproduced" in pair[1][5]
    assert pair[1][6].startswith("70.30 (+0.20)")


def test_a_median_is_printed_where_it_is_compared() -> None:
    cell = measured(
        [70.0, 70.6, 70.7], published=published(70.6, n=5, statistic="median_of_finals")
    )
    paper, pair = tables(judge(small({"KD": cell})))[:2]
    assert paper[1][1].startswith("70.43")
    assert pair[1][2].startswith("70.60")
    assert pair[1][3] == "+0.00"


def test_best_and_last_stand_side_by_side_on_request() -> None:
    text = markdown.render(wide(1), statistics=("last", "best"))
    paper = parse(text)[0]
    assert paper[0][2:] == ["resnet56 resnet20 last", "resnet56 resnet20 best"]


def test_claims_and_ranks_have_their_tables() -> None:
    grid = judge(wide(3, claims=(claim("KD", "better", ["Student"]),)))
    ranks, pairs, claims = tables(grid)[-3:]
    assert pairs[0][0] == "best against"
    assert len(pairs) == len(ranks) - 1
    assert ranks[0] == ["method", "average rank"]
    assert len(ranks) == len(grid.ranks[0].average) + 1
    assert claims[1][0] == "a sentence"
    assert claims[1][1] in ("holds", "fails", "no gain", "needs more seeds")
